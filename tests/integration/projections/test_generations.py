"""A new generation of a table takes the live one's place while projectors and readers run."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from domain.orders.views import OrderDetails
from eventstore.memory import MemoryLog
from projections.errors import Fenced
from projections.poison import Parked
from projections.postgres import generations, parked_events, schema
from projections.postgres.queries import PAGE
from projections.postgres.reader import PostgresReader
from projections.postgres.row_codec import RowCodec
from projections.postgres.store import PostgresStore
from projections.row_query import RowQuery
from projections.stores.rebuild import enough
from projections.supervision.placements import Placements
from rayfold import Registry, VersionedRow, ViewDefinition
from tests.contract.stores.subjects import Here
from tests.integration.projections import small
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.small import STRICT, TOTALS, add
from tests.integration.projections.test_poison import DEADLINE, dsn, running, there, totals

REGISTRY = Registry([small])
__all__ = ["dsn"]

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
"""How many wait for somebody else."""


async def switch(dsn: str, log: MemoryLog, view: ViewDefinition = TOTALS) -> None:
    """Builds and switches, as `StoreSupervisor.rebuild` does."""
    connection = await asyncpg.connect(dsn)
    table = await schema.begin_generation(connection, view)
    builder = Projector(REGISTRY, log, dsn, [view], generations={"totals": table})
    task = asyncio.create_task(builder.run())
    try:
        await asyncio.wait_for(builder.runner.ready.wait(), DEADLINE)
        await schema.create_indexes(connection, view, table)
        await schema.switch(connection, view, table, partial(enough, Here(builder.progress), None))
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await schema.discard(connection, table)
        await connection.close()


async def test_no_reader_sees_a_partial_view_or_an_older_one(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    async with running(log, dsn, TOTALS) as [projector]:
        reads = PostgresReader(REGISTRY, Placements(), dsn)
        await reads.store.connect()
        stop = asyncio.Event()
        seen = 0

        async def write() -> None:
            while not stop.is_set():
                await add(log, "a", 1)
                await asyncio.sleep(0.002)

        async def read() -> None:
            nonlocal seen
            position = 0
            while not stop.is_set():
                ask = RowQuery("totals", "a", 0, {}, 0, None)
                found = await reads.ask(ask, time.monotonic() + DEADLINE)
                assert found.body is not None
                assert found.position >= position
                position = found.position
                seen += 1

        working = [asyncio.create_task(write()), *(asyncio.create_task(read()) for _ in range(4))]
        for _ in range(3):
            await switch(dsn, log)
        stop.set()
        await asyncio.gather(*working)
        await there(log, [projector])
        events = await log.end_position(["counter-"])
        assert await totals(dsn) == {"a": events}
        assert seen > 100
        await reads.store.close()
        connection = await asyncpg.connect(dsn)
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname='public'")
        assert not [name for (name,) in names if "__" in name]
        await connection.close()


async def test_a_changed_definition_is_found_and_the_old_table_kept_until_then(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2)
    async with running(log, dsn, TOTALS):
        pass
    connection = await asyncpg.connect(dsn)
    assert await schema.prepare(connection, [TOTALS], {"totals": 1}) == []
    changed = replace(TOTALS, version=2)
    left = await schema.begin_generation(connection, changed)
    assert await schema.prepare(connection, [changed], {"totals": 1}) == [changed]
    assert await connection.fetchval("SELECT to_regclass($1)", f'"{left}"') is None
    assert await totals(dsn) == {"a": 3}
    await connection.close()
    await switch(dsn, log, changed)
    connection = await asyncpg.connect(dsn)
    assert await schema.prepare(connection, [changed], {"totals": 1}) == []
    await connection.close()


async def test_a_table_is_vacuumed_before_a_list_has_a_fifth_of_dead_rows(dsn: str) -> None:
    """A reader of a list skips all dead rows that have left the list since."""
    connection = await asyncpg.connect(dsn)
    try:
        await schema.prepare(connection, [TOTALS], {"totals": 1})
        table = await schema.begin_generation(connection, TOTALS)
        settings = "SELECT reloptions FROM pg_class WHERE relname = $1"
        options = dict(each.split("=") for each in await connection.fetchval(settings, table))
        assert float(options["autovacuum_vacuum_scale_factor"]) < 0.1
        assert int(options["fillfactor"]) < 100
    finally:
        await connection.close()


async def test_a_replaced_table_that_a_foreign_sql_view_reads_is_kept_and_the_switch_succeeds(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2)
    async with running(log, dsn, TOTALS):
        pass
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE VIEW report AS SELECT * FROM totals")
    await add(log, "a", 4)
    await switch(dsn, log)
    assert await totals(dsn) == {"a": 7}
    [told] = [
        str(vars(each).get("error"))
        for each in caplog.records
        if "could not be dropped" in each.msg
    ]
    assert told.startswith("view report depends on table totals__")
    old = "SELECT count(*) FROM pg_tables WHERE tablename ~ '^totals__[0-9]+_old$'"
    for _ in range(2):  # starts
        assert await schema.prepare(connection, [TOTALS], {"totals": 1}) == []
        assert await connection.fetchval(old) == 1
    await switch(dsn, log)
    assert await connection.fetchval(old) == 1
    await connection.execute("DROP VIEW report")
    assert await schema.prepare(connection, [TOTALS], {"totals": 1}) == []
    assert await connection.fetchval(old) == 0
    await connection.close()


async def test_a_switch_that_waits_for_a_lock_blocks_neither_readers_nor_projectors(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "AGAIN", 0.1)
    log = MemoryLog()
    await add(log, "a", 1)
    async with running(log, dsn, TOTALS) as [projector]:
        dump, looking = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
        async with dump.transaction():
            await dump.execute("LOCK TABLE totals IN ACCESS SHARE MODE")
            switching = asyncio.create_task(switch(dsn, log))
            while not await looking.fetchval(WAITING):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            async with asyncio.timeout(DEADLINE):
                assert await totals(dsn) == {"a": 1}
                await add(log, "a", 2)
                await there(log, [projector])
            assert not switching.done()
        await switching
        assert await totals(dsn) == {"a": 3}
        await asyncio.gather(dump.close(), looking.close())


async def test_readers_do_not_wait_while_a_switch_moves_what_is_parked(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "BLOCKED", int(DEADLINE))
    log = MemoryLog()
    async with running(log, dsn, TOTALS) as [projector]:
        await add(log, "a", 1)
        await there(log, [projector])
        moving, reading = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
        await parked_events.save(
            moving, {"totals": "totals"}, [Parked("totals", "b", "counter-b", 0, 1, "no")]
        )
        async with moving.transaction():  # takes as long as if there were very many of them
            await moving.execute("SELECT FROM rayfold_parked FOR UPDATE")
            switching = asyncio.create_task(switch(dsn, log))
            while not await reading.fetchval(WAITING):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await reading.execute("SET lock_timeout = '20ms'")
            assert await reading.fetchval("SELECT total FROM totals") == 1
            assert not switching.done()
        await switching
        await asyncio.gather(moving.close(), reading.close())


async def test_a_start_does_not_wait_for_readers(dsn: str) -> None:
    async with running(MemoryLog(), dsn, TOTALS):
        pass
    dump, connection = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    left = await schema.begin_generation(connection, TOTALS)
    tables = await dump.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    async with dump.transaction():
        for (table,) in tables:
            await dump.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
        async with asyncio.timeout(DEADLINE):
            assert await schema.prepare(connection, [TOTALS], {"totals": 1}) == []
    assert await connection.fetchval("SELECT to_regclass($1)", f'"{left}"') is not None
    assert await schema.prepare(connection, [TOTALS], {"totals": 1}) == []
    assert await connection.fetchval("SELECT to_regclass($1)", f'"{left}"') is None
    await asyncio.gather(dump.close(), connection.close())


async def test_a_dropped_table_is_noticed_and_rebuilt(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2)
    connection = await asyncpg.connect(dsn)
    async with running(log, dsn, TOTALS) as [projector]:
        await connection.execute("DROP TABLE totals")
        assert await schema.prepare(connection, [TOTALS], {"totals": 1}) == [TOTALS]
        await switch(dsn, log)  # as an operator's `rebuild` does
        assert await totals(dsn) == {"a": 3}
        await projector.runner.renew("totals")
        await add(log, "a", 4)
        await there(log, [projector])
        assert await totals(dsn) == {"a": 7}
    assert await schema.prepare(connection, [TOTALS], {"totals": 1}) == []
    await connection.close()


async def test_a_projector_of_the_old_release_writes_nothing_into_the_table_of_the_new_one(
    dsn: str,
) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    async with running(log, dsn, TOTALS) as [before]:
        await there(log, [before])
        changed = replace(TOTALS, version=TOTALS.version + 1)
        await switch(dsn, log, changed)
        reached = before.progress.position
        await add(log, "a", 1)
        async with running(log, dsn, changed) as [after]:
            await there(log, [after])
            assert await totals(dsn) == {"a": 2}
        assert before.progress.position == reached
        with pytest.raises(Fenced, match="another release has built 'totals'"):
            async with PostgresStore(REGISTRY, dsn).writing([TOTALS], 0, 1, {}) as writer:
                await writer.open()


async def test_a_build_that_does_not_catch_up_does_not_replace_the_live_table(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    async with running(log, dsn, TOTALS):
        connection = await asyncpg.connect(dsn)

        async def not_there(position: int) -> None:
            return None

        table = await schema.begin_generation(connection, TOTALS)
        with pytest.raises(Exception, match="did not catch up"):
            await schema.switch(connection, TOTALS, table, not_there)
        await connection.close()
        assert await totals(dsn) == {"a": 1}


@pytest.mark.parametrize("renewed", [True, False], ids=["told", "not told"])
async def test_an_idle_projector_continues_with_the_new_generation(
    dsn: str, monkeypatch: pytest.MonkeyPatch, renewed: bool
) -> None:
    monkeypatch.setattr(small.Totals, "broken", {13})
    log = MemoryLog()
    await add(log, "a", 1, 13, 2)
    async with running(log, dsn, TOTALS) as [projector]:
        assert [each.key for each in projector.parked()] == ["a"]
        small.Totals.broken.clear()
        # Nothing is written meanwhile: both generations are at the same position.
        await switch(dsn, log)
        assert await totals(dsn) == {"a": 16}
        if renewed:
            await projector.runner.renew("totals")
            assert projector.parked() == []
        await add(log, "a", 4)
        await there(log, [projector])
        assert await totals(dsn) == {"a": 20}
        assert projector.parked() == []


async def test_two_views_are_repartitioned_while_a_projector_is_between_their_checkpoints(
    dsn: str,
) -> None:
    """The projector may lock them in another order than the views are repartitioned in."""
    views = [TOTALS, STRICT]
    async with running(MemoryLog(), dsn, *views):
        pass
    projector, looking = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    move = 'UPDATE rayfold_checkpoint SET position = position WHERE "table" = $1 AND partitions = 1'
    async with projector.transaction(), asyncio.timeout(DEADLINE):
        assert await projector.execute(move, schema.table_of(STRICT)) == "UPDATE 1"
        cutting = asyncio.create_task(PostgresStore(REGISTRY, dsn).generations.partition(views, 2))
        while not await looking.fetchval(WAITING):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await projector.execute(move, schema.table_of(TOTALS)) == "UPDATE 0"
    await cutting
    found = await looking.fetch('SELECT "table", partitions FROM rayfold_checkpoint')
    assert sorted(tuple(each) for each in found) == [("strict", 2)] * 2 + [("totals", 2)] * 2
    await asyncio.gather(projector.close(), looking.close())


async def test_a_replay_during_a_switch_is_refused_and_does_not_delay_the_switch(dsn: str) -> None:
    """It locks the checkpoint before it looks at the table, as all do that move one."""
    log = MemoryLog()
    await add(log, "a", 1)
    async with running(log, dsn, TOTALS):
        pass
    generations = PostgresStore(REGISTRY, dsn).generations
    built = await generations.begin(TOTALS)
    looking = await asyncpg.connect(dsn)
    await looking.execute('UPDATE rayfold_checkpoint SET position = 1000 WHERE "table" = $1', built)
    async with PostgresStore(REGISTRY, dsn).writing([TOTALS], 0, 1, {}) as writer:
        await writer.open()

        async def replays() -> None:
            async with writer.transaction({}) as transaction:
                rows = await transaction.load("totals", ["a"])
                await transaction.store("totals", rows, rows)

        async def reached(position: int) -> int:
            nonlocal replay
            replay = asyncio.create_task(replays())
            while not await looking.fetchval(WAITING):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return position

        replay: asyncio.Task[None] | None = None
        async with asyncio.timeout(DEADLINE):
            await generations.switch(TOTALS, built, reached)
            assert replay is not None
            with pytest.raises(Fenced):
                await replay
    await looking.close()
    assert await totals(dsn) == {}


BEFORE = """
CREATE SEQUENCE rayfold_generation;
CREATE TABLE rayfold_checkpoint (
    "table" text NOT NULL, partition int NOT NULL, partitions int NOT NULL,
    position bigint NOT NULL, PRIMARY KEY ("table", partition));
CREATE TABLE rayfold_parked (
    "table" text NOT NULL, key text NOT NULL, stream text NOT NULL,
    revision bigint NOT NULL, position bigint NOT NULL, error text NOT NULL,
    PRIMARY KEY ("table", key, stream));
CREATE TABLE rayfold_held (
    "table" text NOT NULL, key text NOT NULL, stream text NOT NULL,
    revision bigint NOT NULL, position bigint NOT NULL,
    PRIMARY KEY ("table", key, stream, position));
INSERT INTO rayfold_checkpoint VALUES ('totals', 0, 1, 0);
INSERT INTO rayfold_parked VALUES ('totals', 'k', 'counter-k', 0, 1, 'broke');
"""
"""Our tables as they were in the layout before this one."""


async def test_a_database_with_the_previous_layout_is_migrated(dsn: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2)
    connection = await asyncpg.connect(dsn)
    await connection.execute(BEFORE)
    async with running(log, dsn, TOTALS):
        assert await totals(dsn) == {"a": 3}
    [parked] = await parked_events.load(connection, {"totals": "totals"})
    assert (parked.key, parked.by_store) == ("k", False)
    await connection.close()


async def test_a_table_that_grows_is_not_read_whole_for_some_rows(
    dsn: str, registry: Registry
) -> None:
    # A statement is planned for good when it has run some times, which is when the table is small.
    details = registry.views["order-details"]
    connection = await asyncpg.connect(dsn)
    await schema.prepare(connection, [details], {details.name: 1})
    await connection.execute("ALTER TABLE order_details SET (autovacuum_enabled = off)")
    now = datetime.now(UTC)
    async with PostgresStore(registry, dsn).writing([details], 0, 1, {}) as writer:
        await writer.open()
        for batch in range(1, 30):
            keys = [uuid4() for _ in range(20)]
            rows = {
                str(key): VersionedRow(
                    OrderDetails(
                        order_id=key, customer_id="c", status="open", currency="EUR", created_at=now
                    ),
                    *(0, batch, batch),
                )
                for key in keys
            }
            async with writer.transaction({details.name: batch}) as transaction:
                assert await transaction.load(details.name, list(rows)) == {}
                await transaction.store(details.name, rows, {})
    assert (await read_from(connection, "order_details", 1))["seq_tup_read"] == 0
    await connection.close()


async def read_from(
    connection: asyncpg.Connection[asyncpg.Record], table: str, scans: int
) -> asyncpg.Record:
    """Return what was read from a table, once so many scans are told of."""
    looked = (
        "SELECT seq_tup_read, idx_tup_fetch, seq_scan + coalesce(idx_scan, 0) AS scans"
        " FROM pg_stat_user_tables"
    )
    async with asyncio.timeout(DEADLINE):
        while True:  # a session says what it did when it ends
            found = await connection.fetchrow(f"{looked} WHERE relname = $1", table)
            if found is not None and found["scans"] >= scans:
                return found
            await asyncio.sleep(0.02)


SUMMARIES = (
    "INSERT INTO order_summaries (_key, order_id, customer_id, status, total_cents, currency,"
    " created_at, _revision, _position, _started) SELECT id, id, 'c' || n / 10,"
    " CASE WHEN n % 10000 = 9999 THEN 'open' ELSE (ARRAY['paid', 'shipped'])[1 + n % 2] END,"
    " 1, 'EUR', now(), 0, n, n FROM generate_series($1::int, $2::int) n,"
    " md5(n::text) AS md5, CAST(md5 AS uuid) AS id"
)
"""Rows by their numbers, of which one in ten thousand is open."""


async def test_a_page_reads_no_more_rows_than_it_has_however_rare_and_late_they_are(
    dsn: str, registry: Registry
) -> None:
    # Planned while the table is small, and again with statistics that know no rare value.
    summaries = registry.views["order-summaries"]
    connection = await asyncpg.connect(dsn)
    await schema.prepare(connection, [summaries], {summaries.name: 1})
    await connection.execute("ALTER TABLE order_summaries SET (autovacuum_enabled = off)")
    questions = [{}, {"status": "open"}, {"status": "none"}, {"customer_id": "c1999"}]
    await connection.execute(SUMMARIES, 0, 59)
    store = PostgresStore(registry, dsn)
    for fill in ("ANALYZE order_summaries", None, "ANALYZE order_summaries"):
        if fill is None:
            await connection.execute(SUMMARIES, 60, 29_999)
        else:
            await connection.execute(fill)
        for _ in range(8):
            for filters in questions:
                await store.find(RowQuery(summaries.name, None, 0, filters, 10, None))
            await store.find(RowQuery(summaries.name, str(uuid4()), 0, {}, 0, None))
    await store.close()
    asked = 3 * 8
    found = await read_from(connection, "order_summaries", asked * (len(questions) + 1))
    assert found["seq_tup_read"] == 0
    assert found["idx_tup_fetch"] <= asked * (11 + 3 + 0 + 10)
    await connection.close()


async def test_reading_a_whole_view_lets_other_tasks_run_between_its_rows(
    dsn: str, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    summaries = registry.views["order-summaries"]
    connection = await asyncpg.connect(dsn)
    await schema.prepare(connection, [summaries], {summaries.name: 1})
    await connection.execute(SUMMARIES, 1, 3 * PAGE)
    await connection.close()
    real, at_once, most = RowCodec.decode, 0, 0

    def decode(codec: RowCodec, record: Any) -> VersionedRow:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        return real(codec, record)

    async def others() -> None:
        nonlocal at_once
        while True:
            at_once = 0
            await asyncio.sleep(0)

    monkeypatch.setattr(RowCodec, "decode", decode)
    store = PostgresStore(registry, dsn)
    going = asyncio.create_task(others())
    found = await store.snapshot(summaries.name, [])
    going.cancel()
    await store.close()
    assert len(found.rows) == 3 * PAGE
    assert 0 < most <= PAGE
