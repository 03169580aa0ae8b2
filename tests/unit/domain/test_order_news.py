"""What others are told of orders."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from domain.fulfilment.publications import CancelledNotice, OrderNews, ShippedNotice
from domain.orders.events import OrderCancelled, OrderShipped
from rayfold.testing import published

ORDER = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_shipped_order_is_published() -> None:
    told = published(OrderNews, OrderShipped(order_id=ORDER, at=NOW))
    assert told == [ShippedNotice(order_id=ORDER, shipped_at=NOW)]


def test_a_cancelled_order_is_published_with_whether_it_had_been_placed() -> None:
    cancelled = OrderCancelled(
        order_id=ORDER, total_cents=100, currency="EUR", placed_at=None, at=NOW
    )
    [told] = published(OrderNews, cancelled)
    assert isinstance(told, CancelledNotice)
    assert not told.was_placed
    [told] = published(OrderNews, cancelled.replace(placed_at=NOW))
    assert isinstance(told, CancelledNotice)
    assert told.was_placed
