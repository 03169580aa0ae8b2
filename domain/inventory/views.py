"""What readers of the inventory see."""

from __future__ import annotations

from typing import Self

from domain.inventory.stock import Sku, StockReceived, StockReleased, StockReserved
from rayfold import Query, View, on


class StockLevels(View, name="stock-levels", key="sku"):
    """How many of an item are there, kept, and to be had."""

    sku: str
    on_hand: int = 0
    reserved: int = 0
    available: int = 0

    @on(StockReceived)
    def received(self, event: StockReceived) -> Self:
        return self._changed(on_hand=event.quantity)

    @on(StockReserved)
    def kept(self, event: StockReserved) -> Self:
        return self._changed(reserved=event.quantity)

    @on(StockReleased)
    def given_back(self, event: StockReleased) -> Self:
        return self._changed(reserved=-event.quantity)

    def _changed(self, on_hand: int = 0, reserved: int = 0) -> Self:
        on_hand += self.on_hand
        reserved += self.reserved
        return self.replace(on_hand=on_hand, reserved=reserved, available=on_hand - reserved)


class GetStock(Query, name="get-stock", view=StockLevels):
    """One stock item."""

    sku: Sku
