"""The fulfilment of an order: a saga over the order and its items of stock.

Stock is reserved for each line. Once all of it is, the order waits for its payment, and is shipped.
If an item is missing, or the payment does not come in time, the process cancels the order. Whoever
cancels it, the process then releases what was reserved, the last first. Only the order decides
whether it is cancelled or paid: stock is never released for one that may still be shipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from domain.inventory.stock import ReleaseStock, ReserveStock, StockReserved
from domain.orders.commands import CancelOrder, ExpireOrder, ShipOrder
from domain.orders.events import FulfilmentRequested, OrderCancelled, OrderPaid, OrderShipped
from domain.orders.lines import Line
from rayfold import (
    Aborted,
    CommandRejected,
    Complete,
    Message,
    ProcessManager,
    Schedule,
    Send,
    Step,
    TimedOut,
    Unschedule,
    on,
    on_abort,
    on_rejected,
    on_timeout,
    starts,
)


class FulfilmentState(Message):
    """How far the fulfilment has come. `reserved` keeps the order of the reservations."""

    order_id: UUID = UUID(int=0)
    unanswered: tuple[Line, ...] = ()
    reserved: tuple[Line, ...] = ()
    refused: int = 0
    paid: bool = False
    shipped: bool = False
    cancelled: bool = False

    @property
    def ready(self) -> bool:
        """Whether all of it is reserved, for an order that is still wanted."""
        over = self.cancelled or self.shipped
        return not (over or self.unanswered or self.refused)


FulfilmentEvent = FulfilmentRequested | StockReserved | OrderPaid | OrderShipped | OrderCancelled
FulfilmentPast = FulfilmentEvent | TimedOut | CommandRejected[Any] | Aborted


class Fulfilment(
    ProcessManager[FulfilmentState, FulfilmentEvent],
    name="fulfilment",
    key="order_id",
    initial=FulfilmentState(),
):
    """The fulfilment of one order."""

    payment_timeout: ClassVar[timedelta] = timedelta(
        seconds=float(os.environ.get("FULFILMENT_PAYMENT_TIMEOUT", "900"))
    )
    """A deployment may have another, in seconds."""

    @staticmethod
    def evolve(state: FulfilmentState, happened: FulfilmentPast) -> FulfilmentState:
        """See `ProcessManager.evolve`."""
        match happened:
            case FulfilmentRequested():
                return state.replace(order_id=happened.order_id, unanswered=happened.lines)
            case StockReserved() if line := _line(state, happened.sku):
                return state.replace(
                    unanswered=_without(state, line.sku), reserved=(*state.reserved, line)
                )
            case CommandRejected(command=ReserveStock(sku=sku)):
                return state.replace(unanswered=_without(state, sku), refused=state.refused + 1)
            case OrderPaid():
                return state.replace(paid=True)
            case OrderShipped():
                return state.replace(shipped=True)
            case OrderCancelled():
                return state.replace(cancelled=True)
            case _:
                return state

    @staticmethod
    @starts(FulfilmentRequested)
    def requested(state: FulfilmentState, event: FulfilmentRequested) -> Iterator[Step]:
        for line in event.lines:
            yield Send(ReserveStock(sku=line.sku, quantity=line.quantity, order_id=state.order_id))

    @staticmethod
    @on(StockReserved)
    def reserved(state: FulfilmentState, event: StockReserved) -> Iterator[Step]:
        if state.cancelled:  # while this reservation was being made
            yield _release(state, event.sku, event.quantity)
        if state.ready and state.paid:
            yield Send(ShipOrder(order_id=state.order_id))
        elif state.ready:
            yield Schedule("payment", after=Fulfilment.payment_timeout)
        yield from _if_over(state)

    @staticmethod
    @on_rejected(ReserveStock)
    def lacking(state: FulfilmentState, rejected: CommandRejected[ReserveStock]) -> Iterator[Step]:
        if state.refused == 1 and not (state.cancelled or state.shipped):
            yield Send(CancelOrder(order_id=state.order_id))
        yield from _if_over(state)

    @staticmethod
    @on(OrderPaid)
    def paid(state: FulfilmentState, event: OrderPaid) -> Iterator[Step]:
        if state.ready:
            yield Unschedule("payment")
            yield Send(ShipOrder(order_id=state.order_id))

    @staticmethod
    @on_timeout("payment")
    def unpaid(state: FulfilmentState, timeout: TimedOut) -> Iterator[Step]:
        yield Send(ExpireOrder(order_id=state.order_id))

    @staticmethod
    @on(OrderCancelled)
    def cancelled(state: FulfilmentState, event: OrderCancelled) -> Iterator[Step]:
        yield Unschedule("payment")
        for line in reversed(state.reserved):
            yield _release(state, line.sku, line.quantity)
        yield from _if_over(state)

    @staticmethod
    @on(OrderShipped)
    def shipped(state: FulfilmentState, event: OrderShipped) -> Iterator[Step]:
        yield from _if_over(state)

    @staticmethod
    @on_abort
    def aborted(state: FulfilmentState, aborted: Aborted) -> Iterator[Step]:
        # Reservations are released once the order is cancelled, which can happen after payment.
        if not (state.cancelled or state.shipped):
            yield Send(CancelOrder(order_id=state.order_id))
        yield from _if_over(state)

    @staticmethod
    @on_rejected(CancelOrder, ExpireOrder, ShipOrder, ReleaseStock)
    def came_otherwise(state: FulfilmentState, rejected: CommandRejected[Any]) -> tuple[Step, ...]:
        # Another change was first. An event of the order says what it is instead; stock that is no
        # longer reserved needs no release.
        return ()


def _line(state: FulfilmentState, sku: str) -> Line | None:
    return next((line for line in state.unanswered if line.sku == sku), None)


def _without(state: FulfilmentState, sku: str) -> tuple[Line, ...]:
    return tuple(line for line in state.unanswered if line.sku != sku)


def _release(state: FulfilmentState, sku: str, quantity: int) -> Send:
    return Send(ReleaseStock(sku=sku, quantity=quantity, order_id=state.order_id))


def _if_over(state: FulfilmentState) -> Iterator[Step]:
    """End the process once the order has ended and no answer is pending that may need undoing."""
    if (state.cancelled or state.shipped) and not state.unanswered:
        yield Complete()
