"""Decimals as every store gives them back, and no more digits than one of them keeps."""

from __future__ import annotations

from decimal import Decimal

import pytest

from eventstore.records import RawRecord
from projections.folding import Folding
from rayfold import Event, Registry, View, on
from rayfold.columns import numeric, plain


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("10000", "10000"),
        ("1E+4", "10000"),
        ("1.50E+3", "1500"),
        ("1.00", "1.00"),
        ("-0", "0"),
        ("-0.00", "0.00"),
        ("0E+3", "0"),
        ("0E+400000000", "0"),
        ("-0E-400000000", "0"),
        ("1E-9", "1E-9"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("1E+131072", "1E+131072"),
        ("1E-16384", "1E-16384"),
    ],
)
def test_a_decimal_is_written_in_one_form(given: str, text: str) -> None:
    assert str(plain(Decimal(given))) == text


def test_a_decimal_that_postgres_can_keep_is_written_out() -> None:
    assert len(str(plain(Decimal("1E+131071")))) == 131_072


@pytest.mark.parametrize("given", ["1E+131071", "1E-16383", "0E+131071", "NaN", "-Infinity"])
def test_a_decimal_that_postgres_can_keep_is_sent(given: str) -> None:
    assert str(numeric(Decimal(given))) == given


@pytest.mark.parametrize("given", ["1E+131072", "-1E+262143", "1E-16384"])
def test_a_decimal_that_postgres_cannot_keep_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="131072 digits before the point"):
        numeric(Decimal(given))


def test_a_value_that_is_not_a_decimal_is_refused() -> None:
    """The error parks its row: the value was made without validation."""
    with pytest.raises(TypeError, match="must be a Decimal, not of type int"):
        numeric(0)  # type: ignore[arg-type]


class Priced(Event, name="ItemPriced"):
    item: str
    price: Decimal


class Prices(View, name="prices", key="item"):
    item: str
    price: Decimal = Decimal(0)

    @staticmethod
    @on(Priced)
    def priced(row: Prices, event: Priced) -> Prices:
        return row.replace(price=event.price)


def test_a_decimal_with_a_huge_exponent_is_not_written_out() -> None:
    registry = Registry.load("domain")
    registry.events["ItemPriced"] = Priced.__rayfold__
    folding = Folding(registry, [Prices.__rayfold__])
    data = b'{"item":"a","price":"1E+300000000"}'

    [step] = folding.steps(RawRecord("ItemPriced", data, b"{}", "item-a", 0, 1, 0))
    row = folding.fold(step, None)

    assert row is not None
    assert str(row.row.price) == "1E+300000000"  # type: ignore[attr-defined]
    assert folding.parked == []
