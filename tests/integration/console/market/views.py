"""Views: one that is well, one that breaks on an item, one that is slow while it is told to be."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rayfold import Query, View, on, starts
from tests.integration.console.market.orders import ItemAdded, OrderOpened, OrderPlaced

UNREADABLE = "unreadable"
"""An item that a view cannot fold until `mended`."""


def is_there(name: str) -> bool:
    """Return whether a test has put a file of that name into its folder."""
    return (Path(os.environ["MARKET_FOLDER"]) / name).exists()


class Orders(View, name="orders", key="order_id"):
    """Every order, with what is in it."""

    order_id: str
    customer: str
    items: int = 0
    placed: bool = False

    @staticmethod
    @starts(OrderOpened)
    def opened(event: OrderOpened) -> Orders:
        return Orders(order_id=event.order_id, customer=event.customer)

    @staticmethod
    @on(ItemAdded)
    def added(row: Orders, event: ItemAdded) -> Orders:
        return row.replace(items=row.items + event.quantity)

    @staticmethod
    @on(OrderPlaced)
    def was_placed(row: Orders, event: OrderPlaced) -> Orders:
        return row.replace(placed=True)


class Prices(View, name="prices", key="order_id", stores=("postgres",)):
    """What each order costs; it breaks on an item without a price."""

    order_id: str
    cents: int = 0

    @staticmethod
    @on(ItemAdded)
    def priced(row: Prices, event: ItemAdded) -> Prices:
        if event.sku == UNREADABLE and not is_there("mended"):
            raise LookupError(f"no price is known of {event.sku!r}")
        return row.replace(cents=row.cents + 450 * event.quantity)


class Popular(View, name="popular-items", key="sku", stores=("postgres",)):
    """How often each item was put into an order; it takes its time."""

    sku: str
    times: int = 0

    @staticmethod
    @on(ItemAdded)
    def counted(row: Popular, event: ItemAdded) -> Popular:
        if is_there("slow"):
            time.sleep(0.25)
        return row.replace(times=row.times + event.quantity)


class GetOrder(Query, name="get-order", view=Orders):
    """One order."""

    order_id: str


class GetPrice(Query, name="get-price", view=Prices):
    """What it costs."""

    order_id: str


class GetPopular(Query, name="get-popular", view=Popular):
    """How often it was ordered."""

    sku: str
