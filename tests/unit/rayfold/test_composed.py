"""Composed queries: handlers see answers alone, and a test can play the stores."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from examples.shop.bestsellers import Seller, TopSellers
from examples.shop.views import (
    BasketAndDemand,
    Baskets,
    Demand,
    GetBasket,
    GetBasketAndDemand,
    GetDemand,
    ListDemand,
)
from projections.errors import QueryFailed
from projections.queries.composed import compose, rows_of
from rayfold import ComposedQuery, Composing, Query

ANSWERS: dict[Query, tuple[bytes | None, int]] = {
    GetBasket(basket_id="a"): (b'{"basket_id":"a","items":{"tea":2,"jam":1},"revision":1}', 7),
    GetBasket(basket_id="none"): (None, 8),
    GetDemand(sku="tea"): (b'{"sku":"tea","quantity":9,"revision":4}', 12),
    GetDemand(sku="jam"): (None, 5),
}


async def ask(query: Query) -> tuple[bytes | None, int]:
    return ANSWERS[query]


async def test_a_handler_gets_the_answers_that_it_asks_for() -> None:
    body, position = await compose(GetBasketAndDemand(basket_id="a"), ask)
    assert body == b'{"basket_id":"a","bought":false,"wanted":{"tea":9}}'
    assert position == 12  # the furthest: who sends it back never sees an older state of any


async def test_an_answer_may_be_missing() -> None:
    assert await compose(GetBasketAndDemand(basket_id="none"), ask) == (None, 8)


def test_a_handler_is_plain_python() -> None:
    handler = GetBasketAndDemand(basket_id="a").handle()
    assert next(handler) == GetBasket(basket_id="a")
    assert handler.send(Baskets(basket_id="a", items={"tea": 2})) == [GetDemand(sku="tea")]
    with pytest.raises(StopIteration) as end:
        handler.send([Demand(sku="tea", quantity=2)])
    assert end.value.value == BasketAndDemand(basket_id="a", bought=False, wanted={"tea": 2})


def test_answers_of_lists_and_sql_queries_are_lists_of_rows() -> None:
    page = b'{"items":[{"sku":"tea","quantity":9,"revision":4}],"next_cursor":null}'
    assert rows_of(ListDemand(), page) == [Demand(sku="tea", quantity=9)]
    rows = b'{"items":[{"sku":"tea","quantity":9}],"more":false}'
    query = TopSellers.model_validate_strings({"day": "2026-11-24"})
    assert rows_of(query, rows) == [Seller(sku="tea", quantity=9)]


class Broken(ComposedQuery, name="broken", result=BasketAndDemand):
    """Breaks in its own ways."""

    how: str

    def handle(self) -> Composing[Any]:
        if self.how == "raises":
            raise KeyError("x")
        if self.how == "exits":
            sys.exit("a script's own")
        if self.how == "asks too much":
            while True:
                yield [GetDemand(sku="jam")] * 100
        if self.how == "asks nothing, for ever":
            while True:
                yield []
        wrong: dict[str, Any] = {"nothing": None, "text": "get-demand", "a row": Demand(sku="tea")}
        if self.how in wrong:
            yield wrong[self.how]
        if self.how == "a list of rows":
            yield [Demand(sku="tea")]
        return Demand(sku="tea")


WRONG = [
    *("raises", "exits", "asks too much", "asks nothing, for ever", "gives something else"),
    *("nothing", "text", "a row", "a list of rows"),
]


@pytest.mark.parametrize("how", WRONG)
async def test_a_mistake_in_a_handler_is_reported_as_its_authors(how: str) -> None:
    with pytest.raises(QueryFailed, match="broken"):
        await compose(Broken(how=how), ask)


class Endless(ComposedQuery, name="endless", result=BasketAndDemand):
    """Asks itself, so many times at once."""

    times: int

    def handle(self) -> Composing[Any]:
        yield [self] * self.times


@pytest.mark.parametrize("times", [1, 2])
async def test_a_query_that_asks_itself_without_end_is_stopped(times: int) -> None:
    """Queries that nested queries ask count too."""

    async def again(query: Query) -> tuple[bytes | None, int]:
        assert isinstance(query, Endless)
        return await compose(query, again)

    async with asyncio.timeout(20):
        for _ in range(2):
            with pytest.raises(QueryFailed, match="'endless' asks more than 200 queries"):
                await again(Endless(times=times))


def test_a_missing_result_or_handle_is_reported() -> None:
    class Nothing(ComposedQuery, name="nothing"):
        pass

    said = "\n".join(Nothing.__rayfold__.mistakes())
    assert "result=" in said
    assert "`handle`" in said

    with pytest.raises(TypeError, match="abstract"):
        ComposedQuery()  # type: ignore[abstract]
