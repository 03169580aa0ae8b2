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
    """One order, whole."""

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

    @starts(OrderCreated)
    def created(event: OrderCreated) -> OrderDetails:  # type: ignore[misc]  # made static
        return OrderDetails(
            order_id=event.order_id,
            customer_id=event.customer_id,
            status=Status.OPEN,
            currency=event.currency,
            created_at=event.at,
        )

    @on(LineAdded)
    def line_added(self, event: LineAdded) -> Self:
        line = line_of(event)
        return self.replace(lines=self.lines.add(line), total_cents=self.total_cents + line.cents)

    @on(LineRemoved)
    def line_removed(self, event: LineRemoved) -> Self:
        removed = self.lines.get(event.sku)
        cents = removed.cents if removed else 0
        return self.replace(
            lines=self.lines.remove(event.sku), total_cents=self.total_cents - cents
        )

    @on(OrderPlaced)
    def placed(self, event: OrderPlaced) -> Self:
        return self.replace(status=Status.PLACED, placed_at=event.at)

    @on(OrderPaid)
    def paid(self, event: OrderPaid) -> Self:
        return self.replace(status=Status.PAID, paid_at=event.at)

    @on(OrderShipped)
    def shipped(self, event: OrderShipped) -> Self:
        return self.replace(status=Status.SHIPPED, shipped_at=event.at)

    @on(OrderCancelled)
    def cancelled(self, event: OrderCancelled) -> Self:
        return self.replace(status=Status.CANCELLED, cancelled_at=event.at)


class OrderEntries(View, name="order-entries", key="order_id", stores=("memory",)):
    """One order as it was keyed in: an entry for each time that a line was added."""

    order_id: UUID
    customer_id: str
    status: Status
    lines: Entries = Entries()
    total_cents: int = 0

    @starts(OrderCreated)
    def created(event: OrderCreated) -> OrderEntries:  # type: ignore[misc]  # made static
        return OrderEntries(
            order_id=event.order_id, customer_id=event.customer_id, status=Status.OPEN
        )

    @on(LineAdded)
    def line_added(self, event: LineAdded) -> Self:
        line = line_of(event)
        return self.replace(lines=self.lines.add(line), total_cents=self.total_cents + line.cents)

    @on(LineRemoved)
    def line_removed(self, event: LineRemoved) -> Self:
        lines = self.lines.remove(event.sku)
        return self.replace(lines=lines, total_cents=sum(line.cents for line in lines))

    @on(OrderPlaced, OrderPaid, OrderShipped, OrderCancelled)
    def moved_on(self, event: OrderPlaced | OrderPaid | OrderShipped | OrderCancelled) -> Self:
        return self.replace(status=_STATUS_AFTER[type(event)])


class OrderSummaries(
    View, name="order-summaries", key="order_id", indexes=("customer_id", "status")
):
    """A line for each order: for the orders of a customer, and orders by status."""

    order_id: UUID
    customer_id: str
    status: Status
    total_cents: int = 0
    currency: str
    created_at: UtcDatetime

    @starts(OrderCreated)
    def created(event: OrderCreated) -> OrderSummaries:  # type: ignore[misc]  # made static
        return OrderSummaries(
            order_id=event.order_id,
            customer_id=event.customer_id,
            status=Status.OPEN,
            currency=event.currency,
            created_at=event.at,
        )

    @on(OrderPlaced)
    def placed(self, event: OrderPlaced) -> Self:
        return self.replace(status=Status.PLACED, total_cents=event.total_cents)

    @on(OrderPaid, OrderShipped, OrderCancelled)
    def moved_on(self, event: OrderPaid | OrderShipped | OrderCancelled) -> Self:
        return self.replace(status=_STATUS_AFTER[type(event)])


def _day_of_placing(event: OrderCancelled) -> date | None:
    return event.placed_at.date() if event.placed_at else None


class SalesByDay(View, name="sales-by-day", key="day"):
    """How much was placed on a day (UTC) and not cancelled since, by currency."""

    day: date
    orders: int = 0
    total_cents: dict[str, int] = Field(default_factory=dict)

    @on(OrderPlaced, key=lambda event: event.at.date())
    def placed(self, event: OrderPlaced) -> Self:
        return self._changed(1, event.currency, event.total_cents)

    @on(OrderCancelled, key=_day_of_placing)
    def cancelled(self, event: OrderCancelled) -> Self:
        return self._changed(-1, event.currency, -event.total_cents)

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
