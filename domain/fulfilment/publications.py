"""What others are told of orders, once a deployment says where that goes: see the settings."""

from __future__ import annotations

from uuid import UUID

from domain.orders.events import OrderCancelled, OrderShipped
from rayfold import IntegrationEvent, Publication, UtcDatetime, on


class ShippedNotice(IntegrationEvent, name="order-shipped"):
    """The order was shipped."""

    order_id: UUID
    shipped_at: UtcDatetime


class CancelledNotice(IntegrationEvent, name="order-cancelled"):
    """The order was cancelled; `was_placed` says whether it had been placed before."""

    order_id: UUID
    was_placed: bool
    total_cents: int
    currency: str
    cancelled_at: UtcDatetime


class OrderNews(Publication[ShippedNotice | CancelledNotice], name="order-news", key="order_id"):
    """Tells others that an order was shipped or cancelled."""

    @staticmethod
    @on(OrderShipped)
    def shipped(event: OrderShipped) -> ShippedNotice:
        return ShippedNotice(order_id=event.order_id, shipped_at=event.at)

    @staticmethod
    @on(OrderCancelled)
    def cancelled(event: OrderCancelled) -> CancelledNotice:
        return CancelledNotice(
            order_id=event.order_id,
            was_placed=event.placed_at is not None,
            total_cents=event.total_cents,
            currency=event.currency,
            cancelled_at=event.at,
        )
