"""All that writes and reads Postgres works if each transaction has another session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

import asyncpg
import pytest

from eventstore.memory import MemoryLog
from examples.shop.baskets import ItemPut
from projections.competing.deduplication import Deduplication
from projections.postgres import schema
from projections.postgres.connections import connected
from projections.postgres.reader import PostgresReader
from projections.row_query import RowQuery
from projections.sql.projector import SqlProjector
from projections.sql.schema import prepare as prepare_sql
from projections.stores.rebuild import enough
from projections.supervision.placements import Placements
from rayfold.runtime import postgres as connecting
from rayfold.runtime.postgres import create_pool
from tests.contract.stores.subjects import Here
from tests.integration.projections.competing import DEMAND, SHOP, rows_in
from tests.integration.projections.competing import plainly as plainly_competing
from tests.integration.projections.pooler import Pooler, pooled
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.small import BALANCES, TOTALS, add
from tests.integration.projections.test_poison import REGISTRY, broken, dsn, there, totals
from tests.integration.projections.test_sql_projection import (
    SMALL,
    HowMany,
    Lenient,
    history_of,
    reads,
)

__all__ = ["broken", "dsn"]
DEADLINE = 60.0
LOST = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)


@pytest.fixture(params=["refuses settings", "forgets settings"])
async def pooler(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[Pooler]:
    connecting._pooled.clear()
    async with pooled(dsn, ignores="forgets" in request.param) as running:
        yield running


async def test_asyncpg_alone_does_not_work_with_the_pooler(pooler: Pooler) -> None:
    """If asyncpg worked with the simulated pooler, the other tests would prove nothing."""
    connection = await asyncpg.connect(pooler.dsn)

    async def ask() -> None:
        for _ in range(8):
            await connection.fetchval("SELECT 1 + $1", 1)

    with pytest.raises(LOST):
        await ask()
    connection.terminate()


async def test_many_clients_share_its_sessions(
    pooler: Pooler, caplog: pytest.LogCaptureFixture
) -> None:
    async with create_pool(pooler.dsn, min_size=4, max_size=8) as pool:

        async def ask(number: int) -> None:
            assert await pool.fetchval("SELECT $1::int", number) == number
            assert (await pool.fetchrow("SELECT $1::text AS a", str(number)))["a"] == str(number)

        await asyncio.gather(*(ask(number) for number in range(50)))
        assert all(holder._con is None or holder._con.pooled for holder in pool._holders)
    assert pooler.transactions > 50
    assert [r.message for r in caplog.records].count(caplog.records[0].message) == 1
    assert "a pooler answers" in caplog.text


async def test_a_session_is_used_as_one_without_a_pooler(dsn: str) -> None:
    connection = await connecting.connect(dsn, server_settings={"application_name": "me"})
    assert not connection.pooled
    assert await connection.fetchval("SHOW application_name") == "me"
    await connection.close()


async def test_views_are_made_filled_read_and_rebuilt(dsn: str, pooler: Pooler) -> None:
    log = MemoryLog()
    async with connected(pooler.dsn) as connection:
        await schema.prepare(connection, [TOTALS, BALANCES], {"totals": 1, "balances": 1})
    for number in range(300):  # more new rows at once than go one by one
        await add(log, f"c{number}", number)
    projector = Projector(REGISTRY, log, pooler.dsn, [TOTALS, BALANCES])
    running = asyncio.create_task(projector.run())
    await there(log, [projector])
    await add(log, "c1", 13)  # breaks the fold of one view, and is parked
    await add(log, "c2", 5)
    await there(log, [projector])
    assert (await totals(dsn))["c2"] == 7
    assert {each.key for each in projector.parked()} == {"c1", "c13"}
    reader = PostgresReader(REGISTRY, Placements(), pooler.dsn)
    await reader.store.connect()
    found = await reader.ask(RowQuery("totals", "c2", 0, {}, 0, None), time.monotonic() + DEADLINE)
    assert b'"total":7' in found.body
    async with connected(pooler.dsn) as connection:
        table = await schema.begin_generation(connection, BALANCES)
        builder = Projector(REGISTRY, log, pooler.dsn, [BALANCES], generations={"balances": table})
        building = asyncio.create_task(builder.run())
        await asyncio.wait_for(builder.runner.ready.wait(), DEADLINE)
        await schema.create_indexes(connection, BALANCES, table)
        await schema.switch(
            connection, BALANCES, table, partial(enough, Here(builder.progress), None)
        )
    for task in (building, running):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert (await totals(dsn, "balances"))["c1"] == 14
    await reader.store.close()


async def test_custom_sql_is_executed_and_asked(dsn: str, pooler: Pooler) -> None:
    log = MemoryLog()
    async with connected(pooler.dsn) as connection:
        await connection.execute("DROP SCHEMA IF EXISTS lenient_sum CASCADE")
        await prepare_sql(connection, [Lenient])
    for number in range(1, 20):
        await add(log, "a", number)
    projector = SqlProjector(SMALL, log, pooler.dsn, Lenient)
    running = asyncio.create_task(projector.run())
    end = await log.end_position(["counter-"])
    assert await projector.progress.reached(end, DEADLINE)
    async with reads(pooler.dsn, projector) as reader:
        for _ in range(5):
            found = await reader.ask(HowMany(), end, time.monotonic() + DEADLINE)
            assert found.position >= end
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_competing_consumers_count_each_event_once(dsn: str, pooler: Pooler) -> None:
    history = history_of([ItemPut(basket_id=each, sku="tea", quantity=2) for each in "abc" * 10])
    async with connected(pooler.dsn) as connection:
        await schema.prepare(connection, [DEMAND], {DEMAND.name: 1})
    async with create_pool(pooler.dsn, min_size=1, max_size=3) as pool:
        appliers = [Deduplication(SHOP, MemoryLog(), DEMAND) for _ in range(3)]
        await asyncio.gather(*(each.apply(pool, history) for each in appliers))
        assert await rows_in(pool, DEMAND) == plainly_competing(SHOP, DEMAND, history)
