"""What follows from an order: a process that can be stuck, and news that nobody takes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from rayfold import (
    Aborted,
    CommandRejected,
    IntegrationEvent,
    Message,
    ProcessManager,
    Publication,
    Schedule,
    Send,
    Step,
    TimedOut,
    on,
    on_timeout,
    starts,
)
from tests.integration.console.market.orders import OrderPlaced, ParcelSent, SendParcel
from tests.integration.console.market.views import is_there

STUCK = "stuck"
"""Customers whose names begin so have no address until `mended`."""


class DeliveryState(Message):
    """How far it has come."""

    order_id: str = ""
    customer: str = ""
    sent: bool = False


class Delivery(
    ProcessManager[DeliveryState, OrderPlaced | ParcelSent],
    name="delivery",
    key="order_id",
    initial=DeliveryState(),
):
    """One order's."""

    @staticmethod
    def evolve(
        state: DeliveryState,
        happened: OrderPlaced | ParcelSent | TimedOut | CommandRejected[Any] | Aborted,
    ) -> DeliveryState:
        match happened:
            case OrderPlaced():
                return state.replace(order_id=happened.order_id, customer=happened.customer)
            case ParcelSent():
                return state.replace(sent=True)
            case _:
                return state

    @staticmethod
    @starts(OrderPlaced)
    def ordered(state: DeliveryState, event: OrderPlaced) -> Iterator[Step]:
        if event.customer.startswith(STUCK) and not is_there("mended"):
            raise LookupError(f"no address is known of {event.customer!r}")
        yield Send(SendParcel(order_id=event.order_id, to=event.customer))
        yield Schedule("collected", after=timedelta(days=14))

    @staticmethod
    @on_timeout("collected")
    def collected(state: DeliveryState, timeout: TimedOut) -> Iterator[Step]:
        yield from ()


class Sold(IntegrationEvent, name="market.sold"):
    """An order was placed."""

    order_id: str
    items: int


class OrderNews(Publication[Sold], name="order-news", key="order_id"):
    """What others are told."""

    @staticmethod
    @on(OrderPlaced)
    def placed(event: OrderPlaced) -> Sold:
        return Sold(order_id=event.order_id, items=event.items)
