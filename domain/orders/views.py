"""What readers of orders see."""

from __future__ import annotations

from datetime import date
from typing import Self
from uuid import UUID

from pydantic import Field

from domain.orders.events import (
    LineAdded,
    LineRemoved,
    OrderCancelled,
    OrderCreated,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
)
from domain.orders.lines import Entries, Lines
from domain.orders.order import Status, line_of
from rayfold import UtcDatetime, View, on, starts


class OrderDetails(View, name="order-details", key="order_id"):
    """One order, with its lines."""

    order_id: UUID
    customer_id: str
    status: Status
    currency: str
    lines: Lines = Lines()
    total_cents: int = 0
    created_at: UtcDatetime
    placed_at: UtcDatetime | None = None
    paid_at: UtcDatetime | None = None
    shipped_at: UtcDatetime | None = None
    cancelled_at: UtcDatetime | None = None

    @staticmethod
    @starts(OrderCreated)
    def created(event: OrderCreated) -> OrderDetails:
        return OrderDetails(
            order_id=event.order_id,
            customer_id=event.customer_id,
            status=Status.OPEN,
            currency=event.currency,
            created_at=event.at,
        )

    @staticmethod
    @on(LineAdded)
    def line_added(order: OrderDetails, event: LineAdded) -> OrderDetails:
        line = line_of(event)
        return order.replace(
            lines=order.lines.add(line), total_cents=order.total_cents + line.cents
        )

    @staticmethod
    @on(LineRemoved)
    def line_removed(order: OrderDetails, event: LineRemoved) -> OrderDetails:
        removed = order.lines.get(event.sku)
        cents = removed.cents if removed else 0
        return order.replace(
            lines=order.lines.remove(event.sku), total_cents=order.total_cents - cents
        )

    @staticmethod
    @on(OrderPlaced)
    def placed(order: OrderDetails, event: OrderPlaced) -> OrderDetails:
        return order.replace(status=Status.PLACED, placed_at=event.at)

    @staticmethod
    @on(OrderPaid)
    def paid(order: OrderDetails, event: OrderPaid) -> OrderDetails:
        return order.replace(status=Status.PAID, paid_at=event.at)

    @staticmethod
    @on(OrderShipped)
    def shipped(order: OrderDetails, event: OrderShipped) -> OrderDetails:
        return order.replace(status=Status.SHIPPED, shipped_at=event.at)

    @staticmethod
    @on(OrderCancelled)
    def cancelled(order: OrderDetails, event: OrderCancelled) -> OrderDetails:
        return order.replace(status=Status.CANCELLED, cancelled_at=event.at)


class OrderEntries(View, name="order-entries", key="order_id", stores=("memory",)):
    """One order as it was keyed in: an entry for each time that a line was added."""

    order_id: UUID
    customer_id: str
    status: Status
    lines: Entries = Entries()
    total_cents: int = 0

    @staticmethod
    @starts(OrderCreated)
    def created(event: OrderCreated) -> OrderEntries:
        return OrderEntries(
            order_id=event.order_id, customer_id=event.customer_id, status=Status.OPEN
        )

    @staticmethod
    @on(LineAdded)
    def line_added(order: OrderEntries, event: LineAdded) -> OrderEntries:
        line = line_of(event)
        return order.replace(
            lines=order.lines.add(line), total_cents=order.total_cents + line.cents
        )

    @staticmethod
    @on(LineRemoved)
    def line_removed(order: OrderEntries, event: LineRemoved) -> OrderEntries:
        lines = order.lines.remove(event.sku)
        return order.replace(lines=lines, total_cents=sum(line.cents for line in lines))

    @staticmethod
    @on(OrderPlaced, OrderPaid, OrderShipped, OrderCancelled)
    def moved_on(
        order: OrderEntries, event: OrderPlaced | OrderPaid | OrderShipped | OrderCancelled
    ) -> OrderEntries:
        return order.replace(status=_STATUS_AFTER[type(event)])


class OrderSummaries(
    View, name="order-summaries", key="order_id", indexes=("customer_id", "status")
):
    """A summary of each order, to list the orders of a customer or with a status."""

    order_id: UUID
    customer_id: str
    status: Status
    total_cents: int = 0
    currency: str
    created_at: UtcDatetime

    @staticmethod
    @starts(OrderCreated)
    def created(event: OrderCreated) -> OrderSummaries:
        return OrderSummaries(
            order_id=event.order_id,
            customer_id=event.customer_id,
            status=Status.OPEN,
            currency=event.currency,
            created_at=event.at,
        )

    @staticmethod
    @on(OrderPlaced)
    def placed(order: OrderSummaries, event: OrderPlaced) -> OrderSummaries:
        return order.replace(status=Status.PLACED, total_cents=event.total_cents)

    @staticmethod
    @on(OrderPaid, OrderShipped, OrderCancelled)
    def moved_on(
        order: OrderSummaries, event: OrderPaid | OrderShipped | OrderCancelled
    ) -> OrderSummaries:
        return order.replace(status=_STATUS_AFTER[type(event)])


def _day_of_placing(event: OrderCancelled) -> date | None:
    return event.placed_at.date() if event.placed_at else None


class SalesByDay(View, name="sales-by-day", key="day"):
    """How much was placed on a day (UTC) and not cancelled since, by currency."""

    day: date
    orders: int = 0
    total_cents: dict[str, int] = Field(default_factory=dict)

    @staticmethod
    @on(OrderPlaced, key=lambda event: event.at.date())
    def placed(sales: SalesByDay, event: OrderPlaced) -> SalesByDay:
        return sales._changed(1, event.currency, event.total_cents)

    @staticmethod
    @on(OrderCancelled, key=_day_of_placing)
    def cancelled(sales: SalesByDay, event: OrderCancelled) -> SalesByDay:
        return sales._changed(-1, event.currency, -event.total_cents)

    def _changed(self, orders: int, currency: str, cents: int) -> Self:
        total = self.total_cents.get(currency, 0) + cents
        return self.replace(
            orders=self.orders + orders, total_cents=self.total_cents | {currency: total}
        )


_STATUS_AFTER = {
    OrderPlaced: Status.PLACED,
    OrderPaid: Status.PAID,
    OrderShipped: Status.SHIPPED,
    OrderCancelled: Status.CANCELLED,
}
