"""Events that cannot be folded: what is parked, what continues, and how it is repaired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from eventstore.memory import MemoryLog
from projections import discarded_events as discards
from projections.errors import UnknownTarget
from projections.memory.replica import Replica
from projections.operations.verification import fold_afresh
from projections.postgres.schema import prepare
from projections.row_query import RowQuery, RowResult
from projections.stores import runner
from rayfold import Registry
from tests.integration.projections import small
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.small import STRICT, TOTALS, Totals, add

DEADLINE = 60.0
REGISTRY = Registry([small])


@pytest.fixture(autouse=True)
def broken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The numbers that break the folds."""
    monkeypatch.setattr(runner, "RETRY", 0.01)
    monkeypatch.setattr(small.Totals, "broken", {13})
    return Totals.broken


@asynccontextmanager
async def running(
    log: MemoryLog, dsn: str, *views: type, partitions: int = 1
) -> AsyncIterator[list[Projector]]:
    """Projectors of these views that follow the log."""
    connection = await asyncpg.connect(dsn)
    await prepare(connection, views, {view.name: partitions for view in views})
    await connection.close()
    projectors = [Projector(REGISTRY, log, dsn, views, n, partitions) for n in range(partitions)]
    tasks = [asyncio.create_task(each.run()) for each in projectors]
    try:
        await there(log, projectors)
        yield projectors
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def there(log: MemoryLog, projectors: list[Projector]) -> None:
    """Returns when all have come to the log's end."""
    end = await log.end_position(["counter-"])
    for each in projectors:
        assert await each.progress.reached(end, DEADLINE)


async def totals(dsn: str, view: str = "totals") -> dict[str, int]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(f"SELECT counter, total FROM {view}")
        return {row["counter"]: row["total"] for row in rows}
    finally:
        await connection.close()


@pytest.fixture
async def dsn(postgres: str) -> str:
    """An empty database."""
    connection = await asyncpg.connect(postgres)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return postgres


async def test_a_row_is_parked_with_what_comes_after_and_replayed_in_order(
    dsn: str, broken: set[int]
) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    await add(log, "b", 5)
    async with running(log, dsn, TOTALS) as [projector]:
        await add(log, "a", 4)
        await there(log, [projector])
        assert await totals(dsn) == {"a": 1, "b": 5}
        [parked] = projector.parked()
        assert (parked.key, parked.revision, parked.view) == ("a", 1, "totals")
        assert "cannot add 13" in parked.error
        assert projector.status()["left_out"] == 2
        assert not await projector.replay("totals", "a")
        assert await totals(dsn) == {"a": 1, "b": 5}
        broken.clear()
        assert await projector.replay("totals", "a")
        assert await totals(dsn) == {"a": 20, "b": 5}
        assert projector.parked() == []
        await add(log, "a", 100)
        await there(log, [projector])
        assert await totals(dsn) == {"a": 120, "b": 5}
        with pytest.raises(UnknownTarget):
            await projector.replay("totals", "a")


async def test_what_is_parked_survives_a_restart_and_a_new_partitioning(
    dsn: str, broken: set[int]
) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    async with running(log, dsn, TOTALS):
        pass
    await add(log, "a", 3)
    async with running(log, dsn, TOTALS, partitions=2) as projectors:
        broken.clear()
        [at] = [each for each in projectors if each.parked()]
        assert await at.replay("totals", "a")
        assert await totals(dsn) == {"a": 19}


async def test_a_second_poison_event_parks_the_row_again_with_the_later_events(
    dsn: str, broken: set[int]
) -> None:
    log = MemoryLog()
    broken.add(14)
    await add(log, "a", 1, 13, 2, 14, 3)
    async with running(log, dsn, TOTALS) as [projector]:
        broken.remove(13)
        assert not await projector.replay("totals", "a")
        assert await totals(dsn) == {"a": 16}
        broken.clear()
        assert await projector.replay("totals", "a")
        assert await totals(dsn) == {"a": 33}


async def test_a_view_with_that_policy_stops_as_a_whole_and_continues_when_its_fold_is_mended(
    dsn: str, broken: set[int]
) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    await add(log, "b", 5)
    async with running(log, dsn, TOTALS, STRICT) as [projector]:
        assert await totals(dsn, "strict") == {"a": 1}
        assert await totals(dsn) == {"a": 1, "b": 5}
        assert "cannot add 13" in projector.status()["stopped"]["strict"]
    broken.clear()
    async with running(log, dsn, TOTALS, STRICT):
        assert await totals(dsn, "strict") == {"a": 16, "b": 5}


async def test_events_before_the_one_that_stops_a_view_are_folded(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    await add(log, "a", 2, event_type="Whatever")  # is found while all of a batch is decoded
    async with running(log, dsn, STRICT):
        assert await totals(dsn, "strict") == {"a": 1}


async def test_a_view_stops_at_the_first_of_two_poison_events_whichever_way_they_fail(
    dsn: str, broken: set[int]
) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    await add(log, "b", 5, event_type="Whatever")
    async with running(log, dsn, STRICT) as [projector]:
        assert "cannot add 13" in projector.status()["stopped"]["strict"]
    broken.clear()
    async with running(log, dsn, STRICT) as [projector]:
        assert await totals(dsn, "strict") == {"a": 16}
        assert "Whatever" in projector.status()["stopped"]["strict"]


async def test_an_unreadable_event_parks_its_stream(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    await add(log, "a", 2, event_type="Whatever")
    await add(log, "a", 3)
    await add(log, "b", 5)
    async with running(log, dsn, TOTALS) as [projector]:
        assert await totals(dsn) == {"a": 1, "b": 5}
        [parked] = projector.parked()
        assert (parked.key, parked.stream) == ("", "counter-a")
        assert "Whatever" in parked.error


async def test_memory_rebuilds_a_view_while_the_old_one_serves(broken: set[int]) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    replica = Replica(REGISTRY, ["totals", "strict"], log)
    task = asyncio.create_task(replica.run())

    def total(view: str) -> object:
        [found] = replica.answer([RowQuery(view, "a", 0, {}, 0, None)])
        assert isinstance(found, RowResult)
        return found.body

    await replica.progress.reached(await log.end_position(["counter-"]), DEADLINE)
    assert total("totals") == b'{"counter":"a","total":1,"revision":0}'
    late = RowQuery("strict", "a", replica.progress.position, {}, 0, None)
    assert replica.answer([late]) == [RowResult(None, None, 1, late=True)]
    broken.clear()
    for view in ("totals", "strict"):
        await replica.rebuild(view)
        assert total(view) == b'{"counter":"a","total":16,"revision":2}'
    assert replica.parked() == []
    await add(log, "a", 4)
    await replica.progress.reached(await log.end_position(["counter-"]), DEADLINE)
    assert total("strict") == b'{"counter":"a","total":20,"revision":3}'
    task.cancel()


async def test_a_discarded_event_is_left_out_for_good_and_the_others_are_folded_once(
    dsn: str,
) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    async with running(log, dsn, TOTALS) as [projector]:
        await add(log, "a", 4)
        await there(log, [projector])
        assert await totals(dsn) == {"a": 1}
        [parked] = projector.parked()
        await discards.record(log, parked)
        await discards.record(log, parked)  # to decide it twice is to decide it
        assert await projector.replay("totals", "a")
        assert await totals(dsn) == {"a": 7}
        assert projector.parked() == []
        await add(log, "a", 100)
        await there(log, [projector])
        assert await totals(dsn) == {"a": 107}
    # Also by whoever folds the view again: a build, a replica, a verification.
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    async with running(log, dsn, TOTALS) as [projector]:
        assert await totals(dsn) == {"a": 107}
        assert projector.parked() == []
    afresh = await fold_afresh(REGISTRY, log, await log.end_position(["counter-"]))
    assert afresh["totals"].rows["a"].json() == b'{"counter":"a","total":107,"revision":4}'


async def test_when_the_first_of_two_poison_events_is_discarded_the_second_is_parked(
    dsn: str,
) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2, 13, 3)
    async with running(log, dsn, TOTALS) as [projector]:
        for total, done in ((3, False), (6, True)):
            await discards.record(log, projector.parked()[0])
            assert await projector.replay("totals", "a") == done
            assert await totals(dsn) == {"a": total}


async def test_memory_and_stopped_views_continue_without_a_discarded_event(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    await add(log, "b", 5, event_type="Whatever")
    await add(log, "b", 6)
    replica = Replica(REGISTRY, ["totals", "strict"], log)
    task = asyncio.create_task(replica.run())
    await replica.progress.reached(await log.end_position(["counter-"]), DEADLINE)
    found = {(each.view, each.key, each.stream) for each in replica.parked()}
    assert found == {
        ("totals", "a", "counter-a"),
        ("totals", "", "counter-b"),
        ("strict", "a", "counter-a"),
    }
    for _ in range(2):  # the second thing that stops `strict` is only found behind the first
        for each in replica.parked():
            await discards.record(log, each)
        await replica.rebuild("totals")
        await replica.rebuild("strict")
    assert replica.parked() == []
    for view in ("totals", "strict"):
        rows = {key: body for key, body, _ in replica.rows(view)}
        assert rows["a"] == b'{"counter":"a","total":3,"revision":2}'
        assert rows["b"] == b'{"counter":"b","total":6,"revision":1}'
    task.cancel()


async def test_verification_does_not_report_a_parked_row_as_a_difference(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    async with running(log, dsn, TOTALS):
        afresh = await fold_afresh(REGISTRY, log, await log.end_position(["counter-"]))
        assert afresh["totals"].rows["a"].json() == b'{"counter":"a","total":1,"revision":0}'
