"""What has happened to an order."""

from __future__ import annotations

from uuid import UUID

from domain.orders.lines import Line
from rayfold import Event, UtcDatetime


class OrderCreated(Event, name="OrderCreated"):
    """A customer began an order."""

    order_id: UUID
    customer_id: str
    currency: str
    at: UtcDatetime


class LineAdded(Event, name="LineAdded"):
    """A quantity of an item was added, at this price each."""

    order_id: UUID
    sku: str
    quantity: int
    unit_price_cents: int


class LineRemoved(Event, name="LineRemoved"):
    """An item was removed."""

    order_id: UUID
    sku: str


class OrderPlaced(Event, name="OrderPlaced"):
    """The order was placed, with this total."""

    order_id: UUID
    total_cents: int
    currency: str
    at: UtcDatetime


class FulfilmentRequested(Event, name="FulfilmentRequested"):
    """Fulfilment of the placed order was requested; has all that a fulfilment needs to know."""

    order_id: UUID
    lines: tuple[Line, ...]
    at: UtcDatetime


class OrderPaid(Event, name="OrderPaid"):
    """The order was paid."""

    order_id: UUID
    at: UtcDatetime


class OrderShipped(Event, name="OrderShipped"):
    """The order was shipped."""

    order_id: UUID
    at: UtcDatetime


class OrderCancelled(Event, name="OrderCancelled"):
    """The order was cancelled. `placed_at` is None if it had not been placed."""

    order_id: UUID
    total_cents: int
    currency: str
    placed_at: UtcDatetime | None
    at: UtcDatetime


OrderEvent = (
    OrderCreated
    | LineAdded
    | LineRemoved
    | OrderPlaced
    | FulfilmentRequested
    | OrderPaid
    | OrderShipped
    | OrderCancelled
)
