"""`verify` compares what stores find: filters, orders and cursors of every indexed type."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from eventstore.memory import MemoryLog
from projections.memory.replica import Replica
from projections.memory.table import Table
from projections.operations.differences import Difference
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from projections.postgres.reader import PostgresReader
from projections.postgres.schema import prepare
from projections.supervision.placements import Placements
from rayfold import Registry
from rayfold.columns import Column
from tests.integration.projections import things
from tests.integration.projections.postgres_projector import Projector
from tests.integration.projections.test_poison import DEADLINE, dsn
from tests.integration.projections.things import INDEXED, THINGS, note

__all__ = ["dsn"]

REGISTRY = Registry([things])


@pytest.fixture
async def log() -> MemoryLog:
    """Some things."""
    log = MemoryLog()
    await note(log, 120)
    return log


async def afresh(log: MemoryLog) -> tuple[Table, int]:
    end = await log.end_position(REGISTRY.prefixes)
    return (await fold_afresh(REGISTRY, log, end))["things"], end


async def remembered(log: MemoryLog) -> Replica:
    """A replica at the log's end."""
    replica = Replica(REGISTRY, ["things"], log)
    task = asyncio.create_task(replica.run())
    await asyncio.wait_for(replica.caught_up.wait(), DEADLINE)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return replica


async def in_postgres(log: MemoryLog, dsn: str, statement: str = "") -> list[Difference]:
    """What is found there that should not be, once all is there and somebody ran a statement."""
    table, end = await afresh(log)
    connection = await asyncpg.connect(dsn)
    await prepare(connection, [THINGS], {"things": 1})
    await connection.close()
    projector = Projector(REGISTRY, log, dsn, [THINGS])
    task = asyncio.create_task(projector.run())
    assert await projector.progress.reached(end, DEADLINE)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    if statement:
        connection = await asyncpg.connect(dsn)
        await connection.execute(statement)
        await connection.close()
    reader = PostgresReader(REGISTRY, Placements(), dsn)
    try:
        asked = sample(table)
        found = await reader.snapshot("things", asked)
    finally:
        await reader.store.close()
    return compare_store("postgres", table, asked, found, end)


async def test_every_index_is_queried_alone_and_with_every_other(log: MemoryLog) -> None:
    table, _ = await afresh(log)
    asked = {frozenset(each.filters) for each in sample(table)}
    pairs = {frozenset((one, other)) for one in INDEXED for other in INDEXED}
    assert asked == pairs | {frozenset()}
    assert any(each.cursor for each in sample(table))


async def test_a_view_without_rows_has_empty_pages() -> None:
    log = MemoryLog()
    table, end = await afresh(log)
    queries = sample(table)
    assert queries
    found = (await remembered(log)).snapshot("things", queries)
    assert compare_store("memory", table, queries, found, end) == []


async def test_queries_in_memory_find_what_its_rows_contain(log: MemoryLog) -> None:
    table, end = await afresh(log)
    asked = sample(table)
    found = (await remembered(log)).snapshot("things", asked)
    assert compare_store("memory", table, asked, found, end) == []


async def test_postgres_finds_what_memory_finds(log: MemoryLog, dsn: str) -> None:
    assert await in_postgres(log, dsn) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("many = many + 1", '"many":'),
        ("colour = 'mauve'", "does not decode"),
        ("many = 'Infinity'", "does not decode"),
    ],
    ids=["another value", "a value of another type", "a number that is none"],
)
async def test_a_row_changed_by_hand_in_postgres_is_a_difference(
    log: MemoryLog, dsn: str, change: str, found: str
) -> None:
    one = "(SELECT _key FROM things WHERE flag ORDER BY _key LIMIT 1)"
    differences = await in_postgres(log, dsn, f"UPDATE things SET {change} WHERE _key = {one}")
    [of_rows] = [each for each in differences if not each.key.startswith("?")]
    assert of_rows.expected is not None
    assert of_rows.found is not None
    assert found in of_rows.found


async def test_a_row_missing_from_an_index_in_memory_is_a_difference(log: MemoryLog) -> None:
    table, end = await afresh(log)
    asked = sample(table)
    replica = await remembered(log)
    replica.tables["things"]._lists["flag"]["true"].pop()
    differences = compare_store("memory", table, asked, replica.snapshot("things", asked), end)
    assert differences
    assert all("flag=true" in each.key for each in differences)


async def test_a_different_order_of_rows_is_a_difference(log: MemoryLog) -> None:
    table, end = await afresh(log)
    asked = sample(table)
    replica = await remembered(log)
    replica.tables["things"]._all.reverse()
    differences = compare_store("memory", table, asked, replica.snapshot("things", asked), end)
    assert "?limit=1" in {each.key for each in differences}


async def test_a_row_that_began_at_another_position_is_a_difference(log: MemoryLog) -> None:
    table, end = await afresh(log)
    replica = await remembered(log)
    key, row = next(iter(replica.tables["things"].rows.items()))
    row.started += 1
    [difference] = compare_store("memory", table, [], replica.snapshot("things", []), end)
    assert difference.key == key
    assert difference.expected == f"began at position {row.started - 1}"


async def test_a_text_that_postgres_reads_as_another_value_is_a_difference(
    log: MemoryLog, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Column.value

    def another(column: Column, parameter: str) -> str:
        of_time = column.sql_type in ("timestamptz", "interval")
        return real(column, parameter) + " + interval '1 microsecond'" * of_time

    monkeypatch.setattr(Column, "value", another)
    differences = await in_postgres(log, dsn)
    assert {"at", "lasting"} <= {
        field for each in differences for field in INDEXED if f"?{field}=" in each.key
    }


async def test_keys_are_sorted_by_their_bytes_whatever_the_collation_of_the_database_is(
    log: MemoryLog, dsn: str
) -> None:
    await in_postgres(log, dsn)
    connection = await asyncpg.connect(dsn)
    collation = await connection.fetchval(
        "SELECT collname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation"
        " WHERE attrelid = 'things'::regclass AND attname = '_key'"
    )
    await connection.close()
    assert collation == "C"
