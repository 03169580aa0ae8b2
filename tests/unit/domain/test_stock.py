"""Every rule of stock items, and the one that matters as a property."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.inventory.stock import (
    ReceiveStock,
    ReleaseStock,
    ReserveStock,
    StockItem,
    StockReceived,
    StockReleased,
    StockReserved,
)
from domain.inventory.views import StockLevels
from rayfold import Event, Refused
from rayfold.testing import given, rows_of

RECEIVED = StockReceived(sku="tea", quantity=5)
RESERVED = StockReserved(sku="tea", quantity=3)


def test_stock_is_received() -> None:
    state = given(StockItem).when(ReceiveStock(sku="tea", quantity=5)).then(RECEIVED)
    assert state.available == 5


@pytest.mark.parametrize("command", [ReserveStock, ReleaseStock])
def test_unknown_stock_is_not_found(command: Any) -> None:
    given(StockItem).when(command(sku="tea", quantity=1)).then_not_found()


def test_available_stock_is_reserved() -> None:
    state = given(StockItem, RECEIVED).when(ReserveStock(sku="tea", quantity=3)).then(RESERVED)
    assert state.available == 2


def test_more_than_is_available_is_not_reserved() -> None:
    given(StockItem, RECEIVED, RESERVED).when(ReserveStock(sku="tea", quantity=3)).then_rejected(
        "insufficient-stock"
    )


def test_no_more_is_released_than_is_reserved() -> None:
    given(StockItem, RECEIVED, RESERVED).when(ReleaseStock(sku="tea", quantity=4)).then_rejected(
        "not-reserved"
    )
    given(StockItem, RECEIVED, RESERVED).when(ReleaseStock(sku="tea", quantity=3)).then(
        StockReleased(sku="tea", quantity=3)
    )


commands = st.one_of(
    st.builds(kind, sku=st.just("tea"), quantity=st.integers(1, 20))
    for kind in (ReceiveStock, ReserveStock, ReleaseStock)
)


@for_all(st.lists(commands, max_size=40))
def test_stock_is_never_oversold(wanted: list[Any]) -> None:
    events: list[Event] = []
    for command in wanted:
        try:
            events += StockItem.decide(StockItem.fold(events), command)
        except Refused:
            continue
        state = StockItem.fold(events)
        assert 0 <= state.reserved <= state.on_hand
    rows = rows_of(StockLevels, *events)
    if events:
        state = StockItem.fold(events)
        assert (rows["tea"].on_hand, rows["tea"].available) == (state.on_hand, state.available)
