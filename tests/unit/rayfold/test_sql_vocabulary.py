"""Custom SQL projections as a domain declares them, and what is refused with a sentence."""

from __future__ import annotations

from datetime import date
from types import ModuleType
from typing import Any

import pytest

from examples.shop import baskets, bestsellers
from examples.shop.baskets import BasketBought, ItemPut, PutIn
from examples.shop.bestsellers import Bestsellers, TopSellers
from rayfold import DomainError, Message, Registry, SqlProjection, SqlQuery, View, on, sql
from rayfold.folds import starts


def test_a_handler_says_what_to_do() -> None:
    [put] = Bestsellers.statements(ItemPut(basket_id="a", sku="tea", quantity=2))
    assert put.parameters == ("a", "tea", 2)
    sell, clear = Bestsellers.statements(BasketBought(basket_id="a", day=date(2026, 11, 24)))
    assert sell.parameters == ("a", date(2026, 11, 24))
    assert clear.text.startswith("DELETE")


def test_a_handler_that_returns_a_statement_is_told_to_yield() -> None:
    class Returns(SqlProjection, name="returns"):
        schema = "CREATE TABLE t ()"

        @staticmethod
        @on(ItemPut)
        def put(event: ItemPut) -> Any:
            return sql("DELETE FROM t")

    with pytest.raises(TypeError, match="yields statements"):
        Returns.statements(ItemPut(basket_id="a", sku="tea", quantity=2))


def test_a_query_in_sql_has_a_limit() -> None:
    query = TopSellers.model_validate_strings({"day": "2026-11-24", "limit": "3"})
    assert (query.limit, query.statement().parameters) == (3, (date(2026, 11, 24),))
    with pytest.raises(ValueError, match="less than or equal to 200"):
        TopSellers.model_validate_strings({"day": "2026-11-24", "limit": "201"})


def test_they_are_found_in_a_package() -> None:
    registry = Registry.load("examples.shop")
    assert registry.projections == {"bestsellers": Bestsellers}
    assert registry.queries["top-sellers"].model is TopSellers


def declared(**members: Any) -> Any:
    return type("Bad", (SqlProjection,), members, name="bad")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "schema"),
        ({"schema": " "}, "schema"),
        ({"schema": "CREATE TABLE t ()"}, "handles no event"),
        (
            {"schema": "CREATE TABLE t ()", "f": starts(ItemPut)(lambda e: [])},
            "plain @on",
        ),
        (
            {"schema": "CREATE TABLE t ()", "f": on(ItemPut, key=lambda e: e.sku)(lambda e: [])},
            "plain @on",
        ),
    ],
)
def test_an_incomplete_projection_is_refused(members: dict[str, Any], said: str) -> None:
    assert any(said in mistake for mistake in declared(**members).mistakes())


def test_an_incomplete_query_is_refused() -> None:
    class Nothing(SqlQuery, name="bad"):
        pass

    said = "\n".join(Nothing.__rayfold__.mistakes())
    assert all(missing in said for missing in ("projection=", "row=", "statement"))

    with pytest.raises(TypeError, match="abstract"):
        SqlQuery()  # type: ignore[abstract]


def test_a_view_and_a_projection_of_one_name_are_refused() -> None:
    other = ModuleType("other")

    class Same(View, name="bestsellers", key="sku"):
        sku: str

    Same.__module__ = "other"
    other.Same = Same  # type: ignore[attr-defined]
    with pytest.raises(DomainError, match="both a view and a projection"):
        Registry([baskets, bestsellers, other])


def test_a_query_needs_its_projection_in_the_domain() -> None:
    lonely = ModuleType("lonely")

    class Rows(Message):
        n: int

    class Lonely(SqlQuery, name="lonely", projection=Bestsellers, row=Rows):
        def statement(self) -> Any:
            return sql("SELECT 1 AS n")

    Lonely.__module__ = "lonely"
    lonely.Lonely = Lonely  # type: ignore[attr-defined]
    with pytest.raises(DomainError, match="projection that the domain lacks"):
        Registry([baskets, lonely])


def test_competing_consumers_are_for_postgres_alone() -> None:
    for wrong in ({"stores": ("memory", "postgres")}, {"on_poison": "stop"}):
        options: Any = {"stores": ("postgres",), **wrong}

        class Bad(View, name="bad", key="sku", delivery="competing", **options):
            sku: str

        assert any("competing" in mistake for mistake in Bad.__rayfold__.mistakes())


def test_commands_of_a_package_with_shared_views_are_registered() -> None:
    assert Registry.load("examples.shop").commands["put-in"].model is PutIn
