"""What readers of the inventory see."""

from __future__ import annotations

from typing import Self

from domain.inventory.stock import Sku, StockReceived, StockReleased, StockReserved
from rayfold import Query, View, on


class StockLevels(View, name="stock-levels", key="sku"):
    """How many of an item are on hand, reserved and available."""

    sku: str
    on_hand: int = 0
    reserved: int = 0
    available: int = 0

    @staticmethod
    @on(StockReceived)
    def received(item: StockLevels, event: StockReceived) -> StockLevels:
        return item._changed(on_hand=event.quantity)

    @staticmethod
    @on(StockReserved)
    def kept(item: StockLevels, event: StockReserved) -> StockLevels:
        return item._changed(reserved=event.quantity)

    @staticmethod
    @on(StockReleased)
    def given_back(item: StockLevels, event: StockReleased) -> StockLevels:
        return item._changed(reserved=-event.quantity)

    def _changed(self, on_hand: int = 0, reserved: int = 0) -> Self:
        on_hand += self.on_hand
        reserved += self.reserved
        return self.replace(on_hand=on_hand, reserved=reserved, available=on_hand - reserved)


class GetStock(Query, name="get-stock", view=StockLevels):
    """One stock item."""

    sku: Sku
