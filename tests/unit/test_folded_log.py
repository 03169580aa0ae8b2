"""Whether a log has a position: a restored log may lack it, a lagging one has it soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from eventstore import folded_log as module
from eventstore.errors import NoSuchPosition
from eventstore.folded_log import FoldedLog
from eventstore.memory import MemoryLog
from eventstore.records import Batch
from tests.integration.projections.small import add

PREFIXES = ["counter-"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0)


async def log_of(events: int) -> MemoryLog:
    log = MemoryLog()
    for _ in range(events):
        await add(log, "a", 1)
    return log


async def test_a_log_has_positions_up_to_its_end_and_none_beyond() -> None:
    folded = FoldedLog(await log_of(2), PREFIXES)
    assert [await folded.has(position) for position in (0, 1, 2, 3)] == [True, True, True, False]


async def test_an_empty_log_has_position_zero() -> None:
    assert await FoldedLog(MemoryLog(), PREFIXES).has(0)
    assert not await FoldedLog(MemoryLog(), PREFIXES).has(1)


async def test_if_the_log_does_not_answer_nothing_is_taken_for_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LAG", 0)
    down = MemoryLog()
    down.down = True
    assert await FoldedLog(down, PREFIXES).lacks({"totals": 7}) == []

    class Silent(MemoryLog):
        async def subscribe(
            self, prefixes: Sequence[str], after: int | None, **more: Any
        ) -> AsyncGenerator[Batch, None]:
            await asyncio.Event().wait()
            yield Batch([], 0, False)

    monkeypatch.setattr(module, "ANSWER", 0.01)
    assert await FoldedLog(Silent(), PREFIXES).lacks({"totals": 7}) == []


async def test_only_positions_beyond_the_end_are_lacking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LAG", 0)
    folded = FoldedLog(await log_of(2), PREFIXES)
    assert await folded.lacks({"totals": 3, "orders": 2, "empty": 0}) == ["totals"]
    assert await folded.lacks({"orders": 2}) == []
    assert await folded.lacks({}) == []


async def test_a_log_that_has_grown_to_the_highest_position_may_lack_a_lower_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LAG", 0)
    log = await log_of(5)

    class OfPlaces(MemoryLog):
        """As a real server: a position is the place of a record, or there is none."""

        async def subscribe(
            self, prefixes: Sequence[str], after: int | None, **more: Any
        ) -> AsyncGenerator[Batch, None]:
            if after == 3:
                raise NoSuchPosition
            async for batch in log.subscribe(prefixes, after, **more):
                yield batch

    assert await FoldedLog(OfPlaces(), PREFIXES).lacks({"a": 5, "b": 3, "c": 2}) == ["b"]


async def test_a_node_that_lags_is_waited_for() -> None:
    log = await log_of(2)
    asked = 0

    class Lagging(MemoryLog):
        async def subscribe(
            self, prefixes: Sequence[str], after: int | None, **more: Any
        ) -> AsyncGenerator[Batch, None]:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise NoSuchPosition
            async for batch in log.subscribe(prefixes, after, **more):
                yield batch

        async def end_position(self, prefixes: Sequence[str] | None) -> int:
            return await log.end_position(prefixes)  # the leader's

    assert await FoldedLog(Lagging(), PREFIXES).lacks({"totals": 2}) == []
    assert asked == 3


async def test_a_position_that_a_log_lost_stays_lost_although_the_log_grows_past_it() -> None:
    class Growing(MemoryLog):
        """Processes that are due write as soon as they can."""

        async def end_position(self, prefixes: Sequence[str] | None) -> int:
            end = await super().end_position(prefixes)
            for _ in range(5):
                await add(self, "due", 1)
            return end

    log = Growing()
    await add(log, "a", 1)
    assert await FoldedLog(log, PREFIXES).lacks({"totals": 3}) == ["totals"]
    assert await log.end_position(PREFIXES) > 3


async def test_a_log_that_does_not_answer_at_once_is_asked_again() -> None:
    log = await log_of(2)
    log.down = True

    class Electing(MemoryLog):
        async def subscribe(
            self, prefixes: Sequence[str], after: int | None, **more: Any
        ) -> AsyncGenerator[Batch, None]:
            try:
                async for batch in log.subscribe(prefixes, after, **more):
                    yield batch
            finally:
                log.down = False

        async def end_position(self, prefixes: Sequence[str] | None) -> int:
            return await log.end_position(prefixes)

    assert await FoldedLog(Electing(), PREFIXES).lacks({"totals": 3, "orders": 2}) == ["totals"]
