"""What can be asked about orders."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from domain.orders.commands import CustomerId
from domain.orders.order import Status
from domain.orders.views import OrderDetails, OrderEntries, OrderSummaries, SalesByDay
from rayfold import PageQuery, Query


class GetOrder(Query, name="get-order", view=OrderDetails):
    """One order."""

    order_id: UUID


class GetOrderEntries(Query, name="get-order-entries", view=OrderEntries):
    """One order as it was keyed in."""

    order_id: UUID


class ListOrders(PageQuery, name="list-orders", view=OrderSummaries):
    """The orders of a customer, or in a status, or both, or all; oldest first."""

    customer_id: CustomerId | None = None
    status: Status | None = None


class GetSales(Query, name="get-sales", view=SalesByDay):
    """The sales of one day (UTC)."""

    day: date


class ListSales(PageQuery, name="list-sales", view=SalesByDay):
    """The sales of every day that had any."""
