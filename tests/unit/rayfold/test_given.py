"""The test kit itself: what passes, and above all what does not."""

from __future__ import annotations

from typing import Any

import pytest

from domain.inventory.stock import StockItem, StockReceived, StockReserved
from domain.inventory.views import StockLevels
from rayfold import DomainError, Event, View, upcaster
from rayfold.testing import given

TWO = StockReceived(sku="tea", quantity=2)
ONE_RESERVED = StockReserved(sku="tea", quantity=1)


class Priced(Event, name="Priced", version=3):
    sku: str
    cents: int


@upcaster("Priced", from_version=1)
def in_cents(data: dict[str, Any]) -> dict[str, Any]:
    return {"sku": data["sku"], "cents": round(data.pop("price") * 100)}


@upcaster("Priced", from_version=2)
def lower(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"sku": data["sku"].lower()}


@upcaster("Repriced", from_version=1)
def several(data: dict[str, Any]) -> list[tuple[str, dict[str, Any], int]]:
    return [("Priced", {"sku": each, "cents": data["cents"]}, 2) for each in data["skus"]]


@upcaster("Printed", from_version=1)
def nothing(data: dict[str, Any]) -> None:
    return None


def row(received: int, reserved: int) -> StockLevels:
    """Return the row of tea."""
    events = [StockReceived(sku="tea", quantity=received)]
    events += [StockReserved(sku="tea", quantity=reserved)] if reserved else []
    [found] = given(StockLevels, *events).rows.values()
    return found


class TestViews:
    def test_its_rows_are_compared_in_any_order(self) -> None:
        both = given(StockLevels, TWO).when(StockReceived(sku="cake", quantity=1), ONE_RESERVED)
        assert both.rows["tea"].available == 1
        cake = both.rows["cake"]
        both.then(cake, row(2, 1))
        both.then(row(2, 1), cake)

    def test_a_row_that_is_another_or_missing_fails(self) -> None:
        tea = given(StockLevels, TWO)
        for wrong in ([row(2, 1)], [], [row(2, 0), row(2, 0)]):
            with pytest.raises(AssertionError, match="available=2"):
                tea.then(*wrong)
        with pytest.raises(AssertionError):
            given(StockLevels).then(row(2, 0))

    def test_nothing(self) -> None:
        given(StockLevels).then_nothing()
        with pytest.raises(AssertionError):
            given(StockLevels, TWO).then_nothing()

    def test_what_was_given_stays_as_it_was(self) -> None:
        tea = given(StockLevels, TWO)
        tea.when(ONE_RESERVED)
        tea.then(row(2, 0))


class TestUpcasters:
    def test_each_reads_on_what_another_gives(self) -> None:
        read = given(in_cents, lower).when({"sku": "TEA", "price": 4.5})
        read.then(Priced(sku="tea", cents=450))
        given(lower).when({"sku": "TEA", "cents": 450}).then(Priced(sku="tea", cents=450))

    def test_several_and_none(self) -> None:
        read = given(several, lower).when({"skus": ["A", "B"], "cents": 1})
        read.then(Priced(sku="a", cents=1), Priced(sku="b", cents=1))
        given(nothing).when({}).then_nothing()

    def test_what_is_otherwise_fails(self) -> None:
        read = given(lower).when({"sku": "TEA", "cents": 450})
        with pytest.raises(AssertionError, match="sku='tea'"):
            read.then(Priced(sku="TEA", cents=450))
        with pytest.raises(AssertionError, match="are not"):
            read.then_nothing()
        with pytest.raises(AssertionError, match="are not"):
            given(nothing).when({}).then(Priced(sku="tea", cents=450))
        with pytest.raises(AssertionError, match="read as Priced, not StockReceived"):
            read.then(TWO)

    def test_a_chain_that_ends_too_early_fails(self) -> None:
        with pytest.raises(AssertionError, match="brought to version 2, and is of version 3"):
            given(in_cents).when({"sku": "tea", "price": 4.5}).then(Priced(sku="tea", cents=450))

    def test_the_record_is_the_tests_own(self) -> None:
        record = {"sku": "TEA", "price": 4.5}
        given(in_cents, lower).when(record)
        assert record == {"sku": "TEA", "price": 4.5}

    def test_two_of_one_version_are_refused(self) -> None:
        with pytest.raises(DomainError, match="same version"):
            given(lower, upcaster("Priced", from_version=2)(lambda data: data))


@pytest.mark.parametrize("what", [Priced, View, "StockLevels", TWO, None, int])
def test_what_has_no_past_is_refused(what: Any) -> None:
    with pytest.raises((TypeError, DomainError)):
        given(what)


def test_an_aggregate_as_before() -> None:
    given(StockItem, TWO, ONE_RESERVED)
