"""A memory replica that starts from the rows of Postgres: it folds each event exactly once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import folded_log
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from projections.memory import bootstrap as from_postgres
from projections.memory import replica as replica_module
from projections.memory.bootstrap import Filled, fill
from projections.memory.replica import Replica
from projections.memory.table import Table
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from projections.partitions import AlreadyProjected, hash_of
from projections.postgres import parked_events as parking
from projections.postgres.schema import prepare
from projections.stores import runner
from rayfold import Registry, ViewDefinition
from tests.integration.projections import small
from tests.integration.projections.histories import BadLog, commands, history_of
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.small import BALANCES, STRICT, TOTALS, add
from tests.integration.projections.test_deliveries import plainly, until
from tests.integration.projections.test_poison import DEADLINE, broken, dsn, running, there

REGISTRY = Registry([small])
VIEWS: list[ViewDefinition] = [TOTALS, BALANCES, STRICT]
A = next(key for key in "abcdefgh" if hash_of(key) % 2 == 0)
B = next(key for key in "abcdefgh" if hash_of(key) % 2 == 1)

__all__ = ["broken", "dsn"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once; pages are small."""
    monkeypatch.setattr(runner, "RETRY", 0)
    monkeypatch.setattr(replica_module, "RETRY", 0)
    monkeypatch.setattr(from_postgres, "PAGE", 2)


async def project(
    registry: Registry, log: Any, dsn: str, views: Sequence[ViewDefinition], place: tuple[int, int]
) -> None:
    """One partition comes to the log's end, and stops there."""
    projector = Projector(registry, log, dsn, views, *place)
    task = asyncio.create_task(projector.run())
    try:
        await asyncio.wait_for(projector.runner.ready.wait(), DEADLINE)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def tables(dsn: str, views: Sequence[ViewDefinition], partitions: int) -> None:
    connection = await asyncpg.connect(dsn)
    await prepare(connection, views, {view.name: partitions for view in views})
    await connection.close()


async def begun(log: MemoryLog, filled: list[Filled]) -> Replica:
    """A replica of the small domain that began with these, at the log's end."""
    replica = Replica(REGISTRY, [view.name for view in VIEWS], log)
    await replica.begin(filled)
    await follow(replica)
    return replica


async def follow(replica: Replica) -> None:
    task = asyncio.create_task(replica.run())
    try:
        await asyncio.wait_for(replica.caught_up.wait(), DEADLINE)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def totals(replica: Replica, view: str = "totals") -> dict[str, int]:
    return {key: json.loads(body)["total"] for key, body, _ in replica.rows(view)}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    done=st.lists(commands, max_size=40),
    stops=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    left_out=st.integers(0, 4),
    overlap=st.integers(0, 5),
    through_the_model=st.booleans(),
)
def test_a_replica_filled_from_postgres_has_what_a_plain_fold_gives(
    registry: Registry,
    postgres: str,
    done: list[Any],
    stops: list[int],
    left_out: int,
    overlap: int,
    through_the_model: bool,
) -> None:
    history = history_of(done)
    end = history[-1].position if history else 0
    views = [view for view in registry.views.values() if "memory" in view.stores]
    names = [view.name for view in views]
    kept = [view for view in views if "postgres" in view.stores]

    async def begin() -> Replica:
        connection = await asyncpg.connect(postgres)
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await connection.close()
        await tables(postgres, kept, len(stops))
        for partition, stop in enumerate(stops):
            log = BadLog(history[:stop], [], 0)
            await project(registry, log, postgres, kept, (partition, len(stops)))
        log = BadLog(history, [], overlap)
        replica = Replica(registry, names, log)
        filled = await fill(postgres, views)
        assert len(filled) == (len(kept) if min(stops) and history else 0)
        await replica.begin(filled[left_out:])
        assert len(replica.status().get("filled", ())) == len(filled[left_out:])
        await until(replica.progress, end, [asyncio.create_task(replica.run())])
        return replica

    with pytest.MonkeyPatch.context() as patch:
        if through_the_model:
            patch.setattr(from_postgres, "parts_of", lambda codec: None)
        replica = asyncio.run(begin())
    for view in views:
        expected = plainly(registry, view, history)
        assert {key: body for key, body, _ in replica.rows(view.name)} == expected
        afresh = Table(view)
        for raw in history:
            folding = replica_module.Folding(registry, [view])
            for step in folding.steps(raw):
                afresh.fold(step, folding)
        rows = [json.loads(body) for body in expected.values()]
        filters = [{field: str(row[field])} for field in view.indexes for row in rows]
        for wanted in [{}, *filters]:
            page, _ = replica.tables[view.name].page(wanted, 2, None)
            assert page == afresh.page(wanted, 2, None)[0]


async def test_only_events_that_postgres_lacks_are_folded(dsn: str) -> None:
    log = MemoryLog()
    await add(log, A, 1, 2)
    await add(log, B, 5)
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    filled = await fill(dsn, VIEWS)
    replica = Replica(REGISTRY, [view.name for view in VIEWS], log)
    await replica.begin(filled)
    assert replica.progress.position == await log.end_position(["counter-"])
    assert totals(replica) == {A: 3, B: 5}
    await add(log, A, 4)
    await follow(replica)
    assert totals(replica) == {A: 7, B: 5}
    status = replica.status()
    assert status["events"] == 1
    assert status["filled"] == {"totals": 2, "balances": 2, "strict": 2}


async def test_if_one_view_is_missing_the_others_are_not_folded_again(
    dsn: str, broken: set[int]
) -> None:
    log = MemoryLog()
    await add(log, A, 1, 2)
    await tables(dsn, [TOTALS], 1)
    await project(REGISTRY, log, dsn, [TOTALS], (0, 1))
    broken.add(2)  # whoever folds it now parks it
    filled = await fill(dsn, VIEWS)
    replica = Replica(REGISTRY, ["totals", "strict"], log)
    await replica.begin(filled)
    assert replica.progress.position == 0  # no row is older than what is claimed
    await follow(replica)
    assert totals(replica) == {A: 3}
    assert totals(replica, "strict") == {A: 1}
    assert [each.view for each in replica.parked()] == ["strict"]


async def test_a_removed_row_does_not_come_back_from_a_partition_that_is_behind(
    dsn: str,
) -> None:
    log = MemoryLog()
    await add(log, A, 1)
    await add(log, B, 5)
    await tables(dsn, VIEWS, 2)
    await project(REGISTRY, log, dsn, VIEWS, (1, 2))
    await add(log, A, -1)  # folded onto no row, it would make one
    await add(log, B, 2)
    await project(REGISTRY, log, dsn, VIEWS, (0, 2))
    replica = await begun(log, await fill(dsn, VIEWS))
    assert totals(replica, "balances") == {B: 7}
    assert totals(replica) == {A: 0, B: 7}
    page, _ = replica.tables["balances"].page({"total": "7"}, 10, None)
    assert len(json.loads(page)["items"]) == 1


async def test_lists_are_in_the_order_in_which_rows_began(dsn: str) -> None:
    log = MemoryLog()
    await add(log, B, 5)
    await add(log, A, 5)
    await tables(dsn, VIEWS, 2)
    for partition in (0, 1):  # so that the row that began later is read first
        await project(REGISTRY, log, dsn, VIEWS, (partition, 2))
    replica = await begun(log, await fill(dsn, VIEWS))
    table = replica.tables["balances"]
    assert list(table.rows) == [A, B]
    for filters in ({}, {"total": "5"}):
        items = json.loads(table.page(filters, 10, None)[0])["items"]
        assert [item["counter"] for item in items] == [B, A]


async def test_rows_and_checkpoints_are_read_from_one_snapshot(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    await add(log, A, 1)
    load = parking.load
    async with running(log, dsn, *VIEWS) as [projector]:

        async def write_first(*arguments: Any) -> Any:
            # The checkpoint is read already, the rows are not.
            await add(log, A, -1)
            await there(log, [projector])
            return await load(*arguments)

        monkeypatch.setattr(parking, "load", write_first)
        filled = await fill(dsn, [BALANCES])
    [(table, covered, *_)] = filled
    assert (list(table.rows), covered.most) == ([A], 1)
    replica = await begun(log, filled)
    assert totals(replica, "balances") == {}


async def test_no_generation_is_switched_between_reading_checkpoint_and_rows(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog()
    await add(log, A, 1)
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    connection = await asyncpg.connect(dsn)
    await connection.execute("SET lock_timeout = '20ms'")
    load = parking.load

    async def rename_first(*arguments: Any) -> Any:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await connection.execute("ALTER TABLE totals RENAME TO totals__1_old")
        return await load(*arguments)

    monkeypatch.setattr(parking, "load", rename_first)
    assert len(await fill(dsn, [TOTALS])) == 1
    await connection.execute("ALTER TABLE totals RENAME TO totals__1_old")
    assert await fill(dsn, [TOTALS]) == []
    await connection.close()


async def test_what_is_parked_in_postgres_is_parked_in_memory_too(
    dsn: str, broken: set[int]
) -> None:
    log = MemoryLog()
    await add(log, A, 1, 13, 2)
    await add(log, B, 5)
    await add(log, B, 6, event_type="Whatever")
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    broken.clear()  # or it would be found again by folding, too
    replica = Replica(REGISTRY, ["totals"], log)
    await replica.begin([each for each in await fill(dsn, VIEWS) if each.table.view is TOTALS])
    await add(log, A, 3)
    await add(log, B, 7)
    await follow(replica)
    assert totals(replica) == {A: 1, B: 5}
    projector = Projector(REGISTRY, log, dsn, [TOTALS])
    await until(projector.progress, 7, [asyncio.create_task(projector.run())])
    assert len(projector.parked()) == 2
    assert set(replica.parked()) == set(projector.parked())
    await replica.rebuild("totals")
    assert totals(replica) == {A: 19, B: 5}
    assert [each.key for each in replica.parked()] == [""]


async def test_a_stream_parked_at_a_later_event_does_not_hold_back_its_earlier_events(
    dsn: str,
) -> None:
    log = MemoryLog()
    await tables(dsn, VIEWS, 2)
    await add(log, B, 1)
    await project(REGISTRY, log, dsn, [TOTALS], (1, 2))
    await add(log, B, 2)
    await add(log, B, 3, event_type="Whatever")
    await add(log, B, 4)
    await project(REGISTRY, log, dsn, [TOTALS], (0, 2))
    replica = await begun(log, await fill(dsn, [TOTALS]))
    assert totals(replica) == {B: 3}
    assert len([each for each in replica.parked() if each.view == "totals"]) == 1
    # Nor for the projector that was behind, when it starts again.
    await project(REGISTRY, log, dsn, [TOTALS], (1, 2))
    [filled] = await fill(dsn, [TOTALS])
    assert totals(await begun(log, [filled])) == {B: 3}
    assert [json.loads(row.json())["total"] for row in filled.table.rows.values()] == [3]


async def test_a_view_that_stopped_in_postgres_stops_in_memory_at_the_same_event(
    dsn: str, broken: set[int]
) -> None:
    log = MemoryLog()
    await add(log, A, 1, 13, 2)
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    replica = await begun(log, await fill(dsn, VIEWS))
    assert totals(replica, "strict") == {A: 1}
    assert replica.status()["filled"]["strict"] == 1
    assert list(replica.status()["stopped"]) == ["strict"]


async def test_a_view_that_is_rebuilt_meanwhile_lacks_no_event(dsn: str) -> None:
    log = MemoryLog()
    await add(log, A, 1, 2)
    await tables(dsn, [TOTALS], 1)
    await project(REGISTRY, log, dsn, [TOTALS], (0, 1))
    replica = Replica(REGISTRY, [view.name for view in VIEWS], log)
    await replica.begin(await fill(dsn, [TOTALS]))
    replica.progress.advance(1)  # where it was when it was told to
    await replica.rebuild("totals")
    assert totals(replica) == {A: 1}
    await follow(replica)
    assert totals(replica) == {A: 3}


async def test_verification_finds_a_wrong_row_of_postgres_in_memory_too(dsn: str) -> None:
    log = MemoryLog()
    await add(log, A, 1)
    await add(log, B, 5)
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE totals SET total = 99 WHERE counter = $1", A)
    await connection.close()
    replica = await begun(log, await fill(dsn, VIEWS))
    end = await log.end_position(["counter-"])
    expected = await fold_afresh(REGISTRY, log, end)
    table = expected["totals"]
    found = replica.snapshot("totals", asked := sample(table))
    [difference] = compare_store("memory", table, asked, found, end)
    assert difference.key == A


async def test_tables_that_do_not_fit_the_view_are_not_read(dsn: str) -> None:
    log = MemoryLog()
    assert await fill(dsn, VIEWS) == []  # nothing is there
    await tables(dsn, VIEWS, 2)
    await add(log, A, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 2))
    assert await fill(dsn, VIEWS) == []  # a partition has not begun
    await project(REGISTRY, log, dsn, VIEWS, (1, 2))
    views = [replace(TOTALS, version=2), BALANCES, STRICT]
    assert [each.table.view for each in await fill(dsn, views)] == [BALANCES, STRICT]
    views = [replace(TOTALS, version=2), replace(BALANCES, stores=("memory",)), STRICT]
    assert [each.table.view for each in await fill(dsn, views)] == [STRICT]


async def test_a_row_that_the_view_does_not_accept_leaves_the_others(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_postgres, "parts_of", lambda codec: None)
    log = MemoryLog()
    await add(log, A, 1)
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE balances SET total = NULL")
    await connection.close()
    filled = await fill(dsn, VIEWS)
    assert [each.table.view for each in filled] == [TOTALS]
    assert totals(await begun(log, filled), "balances") == {A: 1}


async def test_without_postgres_the_log_is_folded() -> None:
    log = MemoryLog()
    await add(log, A, 1)
    filled = await fill("postgresql://127.0.0.1:1/nobody", VIEWS)
    assert totals(await begun(log, filled)) == {A: 1}


async def test_a_table_that_is_ahead_of_the_log_is_not_read(dsn: str) -> None:
    log, restored = MemoryLog(), MemoryLog()
    await add(log, A, 1, 2)
    await add(restored, A, 1)
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    replica = await begun(restored, await fill(dsn, VIEWS))
    assert totals(replica) == {A: 1}
    assert replica.progress.position == 1


async def test_a_table_whose_checkpoint_is_beyond_the_log_is_not_read(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that the log has lost may have removed a row that the log still has."""
    monkeypatch.setattr(folded_log, "LAG", 0)
    log = MemoryLog()
    await add(log, A, 1)
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    filled = await fill(dsn, VIEWS)
    for each in filled:
        each.table.without({A: 7})
    filled = [each._replace(covered=AlreadyProjected([7])) for each in filled]
    replica = Replica(REGISTRY, [view.name for view in VIEWS], log)
    await replica.begin(filled)
    assert replica.progress.position == 0
    await follow(replica)
    assert totals(replica) == {A: 1}


async def test_a_checkpoint_at_an_event_of_no_view_does_not_cover_later_events(
    dsn: str,
) -> None:
    log = MemoryLog()
    await add(log, A, 1)
    await tables(dsn, VIEWS, 1)
    await project(REGISTRY, log, dsn, VIEWS, (0, 1))
    for _ in range(6):
        record = NewRecord("Noted", b"{}", {}, str(uuid4()))
        await log.append([StreamAppend(f"elsewhere-{uuid4()}", None, [record])])
    filled = [each._replace(covered=AlreadyProjected([7])) for each in await fill(dsn, VIEWS)]
    replica = Replica(REGISTRY, [view.name for view in VIEWS], log)
    await replica.begin(filled)
    assert replica.progress.position == 1
    await add(log, A, 2)
    await follow(replica)
    assert totals(replica) == {A: 3}


@pytest.mark.parametrize("key", [A, B])
def test_a_key_is_covered_up_to_the_checkpoint_of_its_partition(key: str) -> None:
    covered = AlreadyProjected([5, 7])
    own = 5 if key == A else 7
    assert (covered.least, covered.most) == (5, 7)
    assert [covered.has(key, at) for at in (own - 1, own, own + 1)] == [True, True, False]
