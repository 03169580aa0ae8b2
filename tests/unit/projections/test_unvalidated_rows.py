"""What a fold builds without validation (`model_construct`, `model_copy`) harms only its row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.errors import QueryFailed
from projections.memory.replica import Replica
from projections.row_query import RowQuery, RowResult
from rayfold import Registry
from tests.contract.stores.shelf import Put, Shelf, registry_for, write

DEADLINE = 10.0
FIELDS: dict[str, Any] = {"name": "tea", "colour": None, "size": 1, "painted": 0}


def _without(field: str) -> dict[str, Any]:
    return {name: value for name, value in FIELDS.items() if name != field}


class Folding:
    """A replica of a view whose fold gives what it is told for `bad`."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.registry: Registry = registry_for("memory")
        view = self.registry.views["shelf"]
        begin = view.folds[Put]
        folds = {**view.folds, Put: replace(begin, apply=self._put)}
        self.registry.views["shelf"] = replace(view, stores=("memory",))
        vars(self.registry.views["shelf"])["folds"] = folds
        self.fields: dict[str, Any] = {}
        self.replica = Replica(self.registry, ["shelf"], self.log)

    def _put(self, event: Put) -> Shelf:
        if event.id == "bad":
            return Shelf.model_construct(id=event.id, **self.fields)
        return Shelf(id=event.id, **FIELDS)

    def ask(self, *queries: RowQuery) -> list[Any]:
        return list(self.replica.answer(queries))

    async def written(self) -> int:
        end = await write(self.log, Put(id="bad", name="n"), Put(id="good", name="n"))
        assert await self.replica.progress.reached(end, DEADLINE)
        return end


@pytest.fixture
async def folding() -> AsyncIterator[Folding]:
    made = Folding()
    running = asyncio.create_task(made.replica.run())
    yield made
    assert not running.done()
    running.cancel()


def _one(key: str) -> RowQuery:
    return RowQuery("shelf", key, 0, {}, 0, None)


@pytest.mark.parametrize("fields", [_without("name"), {**FIELDS, "name": "\ud800"}])
async def test_a_row_without_its_indexed_field_is_parked(
    folding: Folding, fields: dict[str, Any]
) -> None:
    folding.fields = fields
    await folding.written()
    [parked] = folding.replica.parked()
    assert (parked.view, parked.key) == ("shelf", "bad")
    bad, good = folding.ask(_one("bad"), _one("good"))
    assert bad.body is None
    assert b'"name":"tea"' in good.body


async def test_a_row_that_is_not_json_fails_its_own_query(folding: Folding) -> None:
    folding.fields = {**FIELDS, "size": 3, "painted": object()}
    await folding.written()
    failed, good, page, others = folding.ask(
        _one("bad"),
        _one("good"),
        RowQuery("shelf", None, 0, {}, 10, None),
        RowQuery("shelf", None, 0, {"size": "1"}, 10, None),
    )
    assert isinstance(failed, QueryFailed)
    assert isinstance(good, RowResult)
    assert isinstance(page, QueryFailed)
    assert isinstance(others, RowResult)
    table = folding.replica.tables["shelf"]
    table.cold()
    table.freeze(table.cold())
    [good] = folding.ask(_one("good"))
    assert isinstance(good, RowResult)


async def test_who_follows_rows_gets_those_that_are_json(folding: Folding) -> None:
    """Otherwise no row of that replica could be followed any more."""
    folding.fields = {**FIELDS, "painted": object()}
    await folding.written()
    folding.replica.subscriptions.follow("a gateway", [("shelf", "bad"), ("shelf", "good")])
    told = await folding.replica.changes("a gateway", DEADLINE)
    assert told is not None
    assert [key for _, key, _ in told] == ["good"]
