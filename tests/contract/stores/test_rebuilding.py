"""A view that is rebuilt while the old one serves, and the switch to it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections.errors import Fenced, ProjectionError, WouldPark
from projections.stores import rebuild
from rayfold import ViewDefinition
from tests.contract.stores.checks import differences, told
from tests.contract.stores.questions import Under, one, page, painted
from tests.contract.stores.shelf import (
    SOME,
    Painted,
    Put,
    Shelf,
    write,
)
from tests.contract.stores.subjects import TIMEOUT, Durable, pace, running


async def test_during_a_rebuild_under_load_no_query_fails_or_goes_back(
    subject: Under,
) -> None:
    log, store = subject
    async with running(store):
        await store.reached(await write(log, *SOME))
        stop = asyncio.Event()
        asked = 0

        async def paint() -> None:
            while not stop.is_set():
                await write(log, Painted(id="0", colour="red"), Painted(id="3", colour="blue"))
                await asyncio.sleep(pace(store))

        async def read(query_at: int) -> None:
            nonlocal asked
            last = painted = 0
            while not stop.is_set():
                query = one("0", last) if query_at else page(last, 3, name="n0")
                answer = await store.ask(query)
                assert answer.position >= last
                said = json.loads(answer.body or b"")
                row = said if query_at else said["items"][0]
                assert row["id"] == "0"
                assert row["painted"] >= painted, "a reader saw a partial view"
                last, painted = answer.position, row["painted"]
                asked += 1
                await asyncio.sleep(0)

        working = [asyncio.create_task(each) for each in (paint(), read(0), read(1), read(1))]
        for at in range(1_000):
            await store.rebuild("shelf")
            await asyncio.sleep(0.01)
            if at > 1 and asked > 50:
                break
        stop.set()
        await asyncio.gather(*working)
        end = await write(log, Painted(id="0", colour="last"))
        await store.reached(end)
        assert asked > 50
        print(f"{store.name}: {at + 1} rebuilds, {asked} queries, none failed, {end} events")
        assert await differences(log, store) == []


async def test_a_rebuilt_generation_that_is_behind_does_not_replace_the_live_one(
    durable: Durable,
) -> None:
    log = durable.log
    async with running(durable):
        end = await write(log, *SOME)
        await durable.reached(end)
        view, generations = durable.registry.views["shelf"], durable.store.generations

        async def never(position: int) -> None:
            assert position >= end

        async def worse(position: int) -> None:
            assert await generations.newly_parked(view, built) is None  # also while writers wait
            raise WouldPark("it serves less")

        built = await generations.begin(view)
        with pytest.raises(ProjectionError):
            await generations.switch(view, built, never)
        with pytest.raises(WouldPark, match="serves less"):
            await generations.switch(view, built, worse)
        await generations.discard(view, built)
        with pytest.raises(ProjectionError):
            await generations.switch(view, built, lambda at: asyncio.sleep(0, at))
        end = await write(log, Painted(id="0", colour="red"))
        assert await painted(durable, "0", end) == 2
        assert await differences(log, durable) == []


@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_rebuild_replaces_what_a_restored_log_has_lost(
    durable: Durable, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PATIENCE", 0.1)
    await durable.start(partitions)
    await durable.reached(await write(durable.log, *SOME))
    await durable.end()
    lost, durable.log = durable.log, MemoryLog()
    await write(durable.log, Put(id="0", name="another"))
    assert await lost.end_position(["thing-"]) > await durable.log.end_position(["thing-"])
    durable.begin(partitions)
    # It grows past what it has lost, by other events than were folded.
    grown = [Painted(id="0", colour="red"), *(Put(id=f"new {at}", name="n") for at in range(9))]
    left = sorted(view.name for view in durable.views)
    while left:
        await until_lost(durable, left)
        await durable.rebuild(left.pop())
        end = await write(durable.log, *grown)
    await durable.reached(end)
    assert await painted(durable, "0", 0) == 2
    assert await differences(durable.log, durable) == []
    await durable.close()


async def until_lost(durable: Durable, views: list[str]) -> None:
    """Wait until each projector says of which views the log does not have what was folded."""
    async with asyncio.timeout(TIMEOUT):
        for projector in durable.projectors:
            while not says_lost(projector.status(), views):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def says_lost(status: dict[str, Any], views: list[str]) -> bool:
    return status.get("lost") == views and "restored" in status.get("error", "")


async def test_an_unfinished_generation_is_removed_and_a_changed_view_is_noticed(
    durable: Durable,
) -> None:
    log = durable.log
    async with running(durable):
        await durable.reached(await write(log, *SOME))
        await durable.end()
        generations = durable.store.generations
        left = await generations.begin(durable.registry.views["shelf"])
        changed = _changed(durable)
        wanted = dict.fromkeys(durable.registry.views, 1)
        assert await generations.prepare(durable.views, wanted) == [changed]
        with pytest.raises(ProjectionError):
            await generations.switch(changed, left, lambda at: asyncio.sleep(0, at))
        # What serves is the one before, and nobody of this release writes it.
        assert (await durable.ask(one("0"))).body is not None
        async with durable.make().writing([changed], 0, 1, {}) as writer:
            with pytest.raises(Fenced, match="another release"):
                await writer.open()
        await durable.rebuild("shelf")
        assert await generations.prepare(durable.views, wanted) == []
        durable.begin()
        await durable.reached(await write(log, Painted(id="0", colour="red")))
        assert await differences(log, durable) == []


def _changed(durable: Durable) -> ViewDefinition:
    changed = replace(durable.registry.views["shelf"], version=2)
    durable.registry.views["shelf"] = changed
    durable.views = list(durable.registry.views.values())
    return changed


async def test_a_generation_being_built_says_which_served_rows_it_would_park(
    durable: Durable,
) -> None:
    log = durable.log
    Shelf.broken = {"black"}
    await durable.start(2)
    painted_so = {
        "a": ["black", "red"],  # parked already, and before
        "b": ["red", "black"],  # served an event more
        "c": ["blue"],
        'd "\n': ["red"],
        "e": ["black"],  # parked no more
    }
    for key, colours in painted_so.items():
        events = [Painted(id=key, colour=colour) for colour in colours]
        end = await write(log, Put(id=key, name="tea"), *events)
    unknown = [NewRecord("Whatever", b"{}", {}, str(uuid4()))]  # parks all of its stream, in both
    await log.append([StreamAppend("thing-c", ANY, unknown)])
    end = await write(log, Put(id="f", name="tea"))
    await durable.reached(end)
    here = {("shelf", "a", 1), ("shelf", "b", 2), ("shelf", "e", 1), ("shelf", "", 2)}
    assert told(each for each in durable.parked() if each.view == "shelf") == here
    Shelf.broken = {"red"}
    async with durable.built("shelf") as (builder, beside):
        there = {("shelf", "a", 2), ("shelf", "b", 1), ("shelf", 'd "\n', 1), ("shelf", "", 2)}
        assert told(builder.parked()) == there
        new = await beside.newly_parked()
    assert new is not None
    assert (new.number, new.first.key, new.first.revision) == (2, "b", 1)
    assert "red" in new.first.error
    Shelf.broken = {"black"}
    async with durable.built("shelf") as (_, beside):
        assert await beside.newly_parked() is None
    assert await painted(durable, 'd "\n', end) == 1
    await durable.close()
