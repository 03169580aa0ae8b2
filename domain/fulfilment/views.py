"""Where each fulfilment stands, for readers."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from pydantic import Field

from domain.inventory.stock import StockReleased, StockReserved
from domain.orders.events import FulfilmentRequested, OrderCancelled, OrderPaid, OrderShipped
from rayfold import PageQuery, Query, UtcDatetime, View, on, starts


class Stage(StrEnum):
    """How far a fulfilment has come."""

    RESERVING = "reserving"
    AWAITING_PAYMENT = "awaiting-payment"
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


class Fulfilments(View, name="fulfilments", key="order_id", indexes=("stage",)):
    """The fulfilment of one order: what was ordered, and how much of it is reserved."""

    order_id: UUID
    stage: Stage
    wanted: dict[str, int]
    reserved: dict[str, int] = Field(default_factory=dict)
    requested_at: UtcDatetime

    @staticmethod
    @starts(FulfilmentRequested)
    def requested(event: FulfilmentRequested) -> Fulfilments:
        return Fulfilments(
            order_id=event.order_id,
            stage=Stage.RESERVING,
            wanted={line.sku: line.quantity for line in event.lines},
            requested_at=event.at,
        )

    @staticmethod
    @on(StockReserved)
    def stock_reserved(row: Fulfilments, event: StockReserved) -> Fulfilments:
        reserved = row.reserved | {event.sku: row.reserved.get(event.sku, 0) + event.quantity}
        waits = row.stage is Stage.RESERVING and reserved.keys() >= row.wanted.keys()
        return row.replace(reserved=reserved, stage=Stage.AWAITING_PAYMENT if waits else row.stage)

    @staticmethod
    @on(StockReleased)
    def stock_released(row: Fulfilments, event: StockReleased) -> Fulfilments:
        left = row.reserved.get(event.sku, 0) - event.quantity
        others = {sku: number for sku, number in row.reserved.items() if sku != event.sku}
        return row.replace(reserved=others | {event.sku: left} if left > 0 else others)

    @staticmethod
    @on(OrderPaid)
    def paid(row: Fulfilments, event: OrderPaid) -> Fulfilments:
        return row.replace(stage=Stage.PAID)

    @staticmethod
    @on(OrderShipped)
    def shipped(row: Fulfilments, event: OrderShipped) -> Fulfilments:
        return row.replace(stage=Stage.SHIPPED)

    @staticmethod
    @on(OrderCancelled)
    def cancelled(row: Fulfilments, event: OrderCancelled) -> Fulfilments:
        return row.replace(stage=Stage.CANCELLED)


class GetFulfilment(Query, name="get-fulfilment", view=Fulfilments):
    """The state of one order's fulfilment."""

    order_id: UUID


class ListFulfilments(PageQuery, name="list-fulfilments", view=Fulfilments):
    """The fulfilments at a stage, or all; oldest first."""

    stage: Stage | None = None
