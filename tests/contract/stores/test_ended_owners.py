"""What an owner leaves if it ends in the middle of a switch of generations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from projections.stores.port import ReadStore
from rayfold import ViewDefinition
from tests.contract.stores.conftest import POINTED
from tests.contract.stores.subjects import Durable

Step = Callable[[Any, ViewDefinition, str], Awaitable[object]]
"""What an owner does to a view, given the name of its live generation."""


class Ended(BaseException):
    """The process is no more: nothing that it does from here on does anything."""


class Owner:
    """The generations of a store, as a process has them that ends before a given request."""

    def __init__(self, store: ReadStore, requests: int) -> None:
        self.generations: Any = store.generations
        self.named: set[str] = set()
        """Every generation that it ever knew."""
        self._left = requests
        if store.name == "redis":
            self._end(self.generations._server, "ask")
        else:
            self._end(self.generations._table, "_ask")
        keys_of = self.generations.keys_of

        def noted(view: ViewDefinition, generation: str) -> Any:
            self.named.add(generation)
            return keys_of(view, generation)

        self.generations.keys_of = noted

    def _end(self, server: Any, name: str) -> None:
        ask = getattr(server, name)

        async def mortal(*asked: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                if isinstance(asked[0], Awaitable):
                    asked[0].close()  # type: ignore[attr-defined]
                raise Ended
            return await ask(*asked)

        setattr(server, name, mortal)


async def begins_again(generations: Any, view: ViewDefinition, live: str) -> None:
    await generations.begin_again(view, live, 1)


async def builds_and_switches(generations: Any, view: ViewDefinition, live: str) -> None:
    async def reached(position: int) -> int:
        return position

    await generations.switch(view, await generations.begin(view), reached)


async def builds_and_gives_up(generations: Any, view: ViewDefinition, live: str) -> None:
    await generations.discard(view, await generations.begin(view))


async def cuts(generations: Any, view: ViewDefinition, live: str) -> None:
    await generations.partition([view], 2)


@pytest.mark.parametrize("kind", POINTED)
@pytest.mark.parametrize("does", [begins_again, builds_and_switches, builds_and_gives_up, cuts])
async def test_wherever_an_owner_ends_the_next_finds_one_writable_generation(
    durable: Durable, does: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.dynamodb.keys.SHARDS", 1)  # each is asked for
    view = durable.registry.views["shelf"]
    next_one: Any = durable.store.generations
    await next_one.prepare([view], {"shelf": 1})
    requests, ended = 0, True
    while ended:
        store = durable.make()
        owner = Owner(store, requests)
        before = (await next_one.pointer(view)).live
        try:
            await does(owner.generations, view, before)
            ended = False
        except Ended:
            requests += 1
        await store.close()
        assert await next_one.prepare([view], {"shelf": 1}) == []
        live = (await next_one.pointer(view)).live
        assert live in owner.named | {before}
        for each in owner.named | {before}:
            assert bool(await items(durable.store, view, each)) == (each == live)
        assert {*await next_one._unfinished(view)} <= {live}
        async with durable.make().writing([view], 0, 1, {}) as writer:
            await writer.open()
    assert requests > 2
    await durable.close()


async def items(store: Any, view: ViewDefinition, generation: str) -> int:
    """Return how many of a generation there are, of whatever kind."""
    keys = store.generations.keys_of(view, generation)
    if store.name == "redis":
        server = store.generations._server
        return int(await server.ask(server.client.exists(*keys.whatever)))
    table = store.generations._table
    return sum([1 for pk in keys.partition_keys async for _ in table.all(pk)])


@pytest.mark.parametrize("kind", POINTED)
async def test_a_new_empty_store_is_not_reported_and_one_that_lost_its_rows_is(
    durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    view = durable.registry.views["shelf"]
    generations: Any = durable.store.generations
    await generations.prepare([view], {"shelf": 1})
    assert not caplog.records
    await generations.begin_again(view, (await generations.pointer(view)).live, 1)
    assert [each.getMessage() for each in caplog.records] == [
        "a store has no rows of a view: they are folded"
    ]
    await durable.close()
