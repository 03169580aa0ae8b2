"""A stream that is deleted on the server: its rows disappear from every store and fold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from eventstore.deletions import with_deletions
from eventstore.kurrentdb.log import EventLog
from eventstore.memory import MemoryLog
from eventstore.port import Log
from projections.competing.deduplication import Deduplication
from projections.memory.replica import Replica
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from projections.poison import Parked
from projections.postgres import schema
from projections.postgres.reader import PostgresReader
from projections.stores import runner
from projections.supervision.placements import Placements
from rayfold import Registry
from tests.integration.projections import competing, small, things
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.small import BALANCES, TOTALS, add
from tests.integration.projections.test_poison import DEADLINE, broken, dsn
from tests.integration.projections.things import THINGS, note

REGISTRY = Registry([small])
VIEWS = [TOTALS, BALANCES]

__all__ = ["broken", "dsn"]


@pytest.fixture(params=["memory", "embedded"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    """Both logs; the embedded one is shared, so that every test has counters of its own."""
    if request.param == "memory":
        yield MemoryLog()
        return
    log = EventLog(request.getfixturevalue("eventstore"))
    yield log
    await log.close()


@pytest.fixture(params=[False, True], ids=["deleted", "tombstoned"])
def tombstone(request: pytest.FixtureRequest) -> bool:
    """Both ways."""
    return bool(request.param)


def counters() -> tuple[str, str]:
    """Return two names that nobody has used."""
    return f"gone{uuid4().hex}", f"stays{uuid4().hex}"


class Stores:
    """A replica and two partitions of Postgres."""

    def __init__(self, log: Log, dsn: str) -> None:
        self._log = log
        self._dsn = dsn
        self.replica = Replica(REGISTRY, [view.name for view in VIEWS], log)
        self.projectors = [Projector(REGISTRY, log, dsn, VIEWS, at, 2) for at in (0, 1)]

    async def there(self) -> None:
        end = await self._log.end_position(with_deletions(REGISTRY.prefixes))
        for part in (self.replica, *self.projectors):
            assert await part.progress.reached(end, DEADLINE), part.status()

    async def have(self, key: str) -> dict[str, bool]:
        """Whether each view has the row, in each store."""
        found = {}
        for view in VIEWS:
            found[f"memory {view.name}"] = key in self.replica.tables[view.name].rows
            found[f"postgres {view.name}"] = key in await self._keys(view.name)
        return found

    async def differences(self) -> list[Any]:
        """What differs from a fold of the log."""
        end = await self._log.end_position(with_deletions(REGISTRY.prefixes))
        afresh = await fold_afresh(REGISTRY, self._log, end)
        reader = PostgresReader(REGISTRY, Placements(), self._dsn)
        found = []
        for view in VIEWS:
            table = afresh[view.name]
            queries = sample(table)
            for store, snapshot in (
                ("memory", self.replica.snapshot(view.name, queries)),
                ("postgres", await reader.snapshot(view.name, queries)),
            ):
                found += compare_store(store, table, queries, snapshot, end)
        await reader.store.close()
        return found

    def parked(self) -> list[Parked]:
        return [each for part in (self.replica, *self.projectors) for each in part.parked()]

    async def _keys(self, view: str) -> set[str]:
        connection = await asyncpg.connect(self._dsn)
        records = await connection.fetch(f'SELECT _key FROM "{view}"')
        await connection.close()
        return {record["_key"] for record in records}


@asynccontextmanager
async def running(log: Log, dsn: str) -> AsyncIterator[Stores]:
    """All of it, at the log's end."""
    connection = await asyncpg.connect(dsn)
    await schema.prepare(connection, VIEWS, {view.name: 2 for view in VIEWS})
    await connection.close()
    stores = Stores(log, dsn)
    tasks = [asyncio.create_task(each.run()) for each in (stores.replica, *stores.projectors)]
    try:
        await stores.there()
        yield stores
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_only_the_rows_of_the_deleted_stream_are_removed(
    log: Log, dsn: str, tombstone: bool
) -> None:
    gone, stays = counters()
    async with running(log, dsn) as stores:
        await add(log, gone, 1, 2)
        await add(log, stays, 3)
        await stores.there()
        assert all((await stores.have(gone)).values())
        await log.delete_stream(f"counter-{gone}", tombstone=tombstone)
        await stores.there()
        assert not any((await stores.have(gone)).values())
        assert all((await stores.have(stays)).values())
        assert await stores.differences() == []


async def test_deleted_rows_do_not_come_back_with_a_restart_or_a_rebuild(
    log: Log, dsn: str, tombstone: bool
) -> None:
    gone, stays = counters()
    await add(log, gone, 1)
    await add(log, stays, 3)
    async with running(log, dsn) as stores:
        await log.delete_stream(f"counter-{gone}", tombstone=tombstone)
        await stores.there()
    async with running(log, dsn) as stores:
        await stores.replica.rebuild("totals")
        assert not any((await stores.have(gone)).values())
        assert await stores.differences() == []
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    async with running(log, dsn) as stores:
        assert not any((await stores.have(gone)).values())
        assert all((await stores.have(stays)).values())
        assert await stores.differences() == []


async def test_a_stream_that_begins_again_has_new_rows(log: Log, dsn: str) -> None:
    gone, _ = counters()
    await add(log, gone, 1, 2)
    await log.delete_stream(f"counter-{gone}")
    await add(log, gone, 5)
    async with running(log, dsn) as stores:
        row = stores.replica.tables["totals"].rows[gone]
        assert b'"total":5' in row.json()
        assert await stores.differences() == []
        await log.delete_stream(f"counter-{gone}")
        await add(log, gone, 7)
        await stores.there()
        assert b'"total":7' in stores.replica.tables["totals"].rows[gone].json()
        assert await stores.differences() == []


@pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "one after the other"])
async def test_parked_events_of_a_deleted_stream_are_removed_too(
    log: Log, dsn: str, broken: set[int], at_once: bool
) -> None:
    gone, stays = counters()
    async with running(log, dsn) as stores:
        await add(log, stays, 1, 13, 2)
        await add(log, gone, 1, 13, 2)
        if not at_once:
            await stores.there()
        await log.delete_stream(f"counter-{gone}")
        await add(log, gone, 5)
        await stores.there()
        assert {each.key for each in stores.parked()} >= {stays}
        assert gone not in {each.key for each in stores.parked()}
        assert b'"total":5' in stores.replica.tables["totals"].rows[gone].json()
        assert await stores.differences() == []
    async with running(log, dsn) as stores:  # also where it is kept
        assert gone not in {each.key for each in stores.parked()}
        await add(log, gone, 6)
        await stores.there()
        assert b'"total":11' in stores.replica.tables["totals"].rows[gone].json()
        assert await stores.differences() == []


async def test_a_parked_stream_is_no_longer_parked_after_its_deletion(log: Log, dsn: str) -> None:
    gone, _ = counters()
    async with running(log, dsn) as stores:
        await add(log, gone, 1)
        await add(log, gone, 2, event_type="Unheard")
        await add(log, gone, 3)
        await stores.there()
        assert f"counter-{gone}" in {each.stream for each in stores.parked()}
        await log.delete_stream(f"counter-{gone}")
        await add(log, gone, 5)
        await stores.there()
        assert f"counter-{gone}" not in {each.stream for each in stores.parked()}
        assert b'"total":5' in stores.replica.tables["totals"].rows[gone].json()
        assert await stores.differences() == []


async def test_other_metadata_of_a_stream_deletes_nothing(eventstore: str, dsn: str) -> None:
    log = EventLog(eventstore)
    _, stays = counters()
    async with running(log, dsn) as stores:
        await add(log, stays, 1, 2)
        client = await log._connected()
        await client.set_stream_metadata(f"counter-{stays}", metadata={"$maxCount": 10, "$tb": 1})
        await stores.there()
        assert all((await stores.have(stays)).values())
        assert stores.parked() == [] or stays not in {each.key for each in stores.parked()}
    await log.close()


async def test_rows_with_another_key_than_the_id_of_the_stream_stay(dsn: str) -> None:
    registry = Registry([things])
    log = MemoryLog()
    await note(log, 30)
    replica = Replica(registry, ["things"], log)
    task = asyncio.create_task(replica.run())
    event = next(each for each in things.events(30) if each.tags)
    await log.delete_stream(f"thing-{event.thing}")
    assert await replica.progress.reached(await log.end_position(["$$thing-"]), DEADLINE)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    rows = replica.tables[THINGS.name].rows
    assert event.thing not in rows
    assert set(event.tags) <= rows.keys()


async def test_competing_consumers_remove_the_rows_too(
    log: Log, dsn: str, tombstone: bool, broken: set[int]
) -> None:
    gone, stays = counters()
    sums = competing.Sums.__rayfold__
    registry = Registry([small, competing])
    connection = await asyncpg.connect(dsn)
    await schema.prepare(connection, [sums], {sums.name: 1})
    await connection.close()
    await add(log, gone, 1, 2)
    await add(log, stays, 3)
    await log.delete_stream(f"counter-{gone}", tombstone=tombstone)
    records = [
        raw
        async for raw in log.read_all(with_deletions(REGISTRY.prefixes))
        if gone in raw.stream or stays in raw.stream
    ]
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        applied = Deduplication(registry, log, sums)
        assert await applied.apply(pool, records) == []
        keys = {each["_key"] for each in await pool.fetch(f'SELECT _key FROM "{sums.name}"')}
        assert keys == {stays}
        if not tombstone:
            await add(log, gone, 5)
            [again] = [raw async for raw in log.read_stream(f"counter-{gone}")]
            assert await applied.apply(pool, [again]) == []
        assert await applied.apply(pool, records) == []  # delivered again
        found = dict(await pool.fetch(f'SELECT _key, total FROM "{sums.name}"'))
        assert found == {stays: 3} | ({} if tombstone else {gone: 5})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once."""
    monkeypatch.setattr(runner, "RETRY", 0.01)
