"""An aggregate with many events, viewed revision by revision: fast, and it blocks nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord, RawRecord
from projections.queries import through_time
from projections.queries.through_time import ThroughTime
from rayfold import Registry
from rayfold.runtime.turns import TURN

STREAM = "stock-tea"


class CountingLog(MemoryLog):
    """Counts what is read of streams."""

    read = 0

    async def read_stream(self, stream: str, **how: Any) -> AsyncGenerator[RawRecord, None]:
        async for raw in super().read_stream(stream, **how):
            self.read += 1
            yield raw


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load("domain")


async def received(log: MemoryLog, number: int) -> None:
    records = [
        NewRecord("StockReceived", b'{"sku":"tea","quantity":1}', {}, str(uuid4()))
        for _ in range(number)
    ]
    await log.append([StreamAppend(STREAM, ANY, records)])


async def at(looked: ThroughTime, revision: int | None = None) -> tuple[int, int, int]:
    """Return the event's revision, and the stock on hand before and after it."""
    found = await looked.at(STREAM, revision)
    assert found is not None
    return found.event.revision, found.before.on_hand, found.state.on_hand


async def test_looking_at_a_revision_reads_only_the_events_after_the_nearest_known_state(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(through_time, "EVERY", 10)
    log = CountingLog()
    await received(log, 1000)
    looked = ThroughTime(registry, log)
    assert await at(looked, 9) == (9, 9, 10)
    assert log.read == 2 + 10
    assert await at(looked) == (999, 999, 1000)
    for revision in (0, 1, 9, 10, 11, 12, 499, 500, 998, 999):
        log.read = 0
        assert await at(looked, revision) == (revision, revision, revision + 1)
        assert log.read < 40
    await received(log, 5)
    assert await at(looked) == (1004, 1004, 1005)


async def test_a_long_stream_keeps_no_more_states_than_a_short_one(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(through_time, "EVERY", 10)
    monkeypatch.setattr(through_time, "MOST_STATES", 8)
    log = CountingLog()
    await received(log, 1000)
    looked = ThroughTime(registry, log)
    await at(looked)
    [known] = looked._known.values()
    assert 4 <= len(known._states) <= 8
    log.read = 0
    assert await at(looked, 700) == (700, 700, 701)
    assert log.read < 400


async def test_a_recreated_aggregate_is_folded_from_its_new_beginning(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(through_time, "EVERY", 2)
    log = MemoryLog()
    await received(log, 10)
    looked = ThroughTime(registry, log)
    assert await at(looked) == (9, 9, 10)
    await log.delete_stream(STREAM)
    await received(log, 4)
    revision, before, after = await at(looked)
    assert (before, after) == (3, 4)
    assert revision == 13


async def test_other_tasks_run_while_it_folds(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    await received(log, 50)
    turns = 0

    def recorded(*of: Any) -> Any:
        time.sleep(1.5 * TURN)
        return rayfold_recorded(*of)

    rayfold_recorded = through_time.recorded
    monkeypatch.setattr(through_time, "recorded", recorded)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    meanwhile = asyncio.create_task(others())
    await at(ThroughTime(registry, log))
    meanwhile.cancel()
    assert turns >= 50


@pytest.mark.parametrize("error", [LookupError("spilt"), SystemExit("spilt")])
async def test_an_event_that_cannot_be_folded_says_why_with_the_state_before_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    log = MemoryLog()
    await received(log, 3)
    evolve = registry.aggregates["stock"].evolve

    def breaks(state: Any, event: Any) -> Any:
        if state.on_hand == 1:
            raise error
        return evolve(state, event)

    monkeypatch.setattr(registry.aggregates["stock"], "evolve", breaks)
    found = await ThroughTime(registry, log).at(STREAM)
    assert found is not None
    assert (found.event.revision, found.state.on_hand) == (1, 1)
    assert found.error == "revision 1 cannot be folded: spilt"


async def test_the_number_of_remembered_streams_is_bounded(registry: Registry) -> None:
    log = MemoryLog()
    looked = ThroughTime(registry, log)
    for number in range(through_time.REMEMBERED + 3):
        name = f"stock-{number}"
        record = NewRecord("StockReceived", b'{"sku":"x","quantity":1}', {}, str(uuid4()))
        await log.append([StreamAppend(name, ANY, [record])])
        await looked.at(name)
    assert len(looked._known) == through_time.REMEMBERED
