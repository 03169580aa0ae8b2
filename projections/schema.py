"""The tables of the Postgres read side: made, found again, and named for people."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from projections.columns import RowCodec, generation_of
from rayfold import View

_LOCK = 0x5261_7966  # "Rayf": one migration at a time

_OWN = """
CREATE TABLE IF NOT EXISTS rayfold_checkpoint (
    "table" text NOT NULL, partition int NOT NULL, partitions int NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY ("table", partition));
CREATE TABLE IF NOT EXISTS rayfold_parked (
    "table" text NOT NULL, key text NOT NULL, stream text NOT NULL,
    revision bigint NOT NULL, position bigint NOT NULL, error text NOT NULL,
    PRIMARY KEY ("table", key, stream));
"""


def table_of(view: type[View]) -> str:
    """The table of the view's present generation."""
    return f"{view_name(view)}_{generation_of(view)}"


def view_name(view: type[View]) -> str:
    """The SQL view under which people find the rows: `order_details`."""
    return view.name.replace("-", "_")


async def migrate(
    connection: asyncpg.Connection[asyncpg.Record], views: Sequence[type[View]], partitions: int
) -> None:
    """Makes what is missing, and cuts the key space into so many partitions.

    Cutting it anew starts every partition where the slowest one was: rows know their own
    position, so what they have already is not folded in twice.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_OWN)
        for view in views:
            await _make(connection, view)
            await _partition(connection, table_of(view), partitions)


async def _make(connection: asyncpg.Connection[asyncpg.Record], view: type[View]) -> None:
    table = table_of(view)
    columns = ",".join(f"{column.quoted} {column.sql_type}" for column in RowCodec(view).columns)
    await connection.execute(
        f'CREATE TABLE IF NOT EXISTS "{table}" (_key text PRIMARY KEY, {columns},'
        " _revision bigint NOT NULL, _position bigint NOT NULL, _started bigint NOT NULL)"
        " WITH (fillfactor = 80)"  # room for updates in place: rows change a few times each
    )
    for field in ("", *view.indexes):
        name = f"{table}_{field}" if field else f"{table}_started"
        on = f'"{field}", _started' if field else "_started"
        await connection.execute(f'CREATE INDEX IF NOT EXISTS "{name}" ON "{table}" ({on})')
    await connection.execute(f'DROP VIEW IF EXISTS "{view_name(view)}"')
    await connection.execute(f'CREATE VIEW "{view_name(view)}" AS SELECT * FROM "{table}"')


async def _partition(
    connection: asyncpg.Connection[asyncpg.Record], table: str, partitions: int
) -> None:
    rows = await connection.fetch(
        'SELECT position, partitions FROM rayfold_checkpoint WHERE "table" = $1 FOR UPDATE', table
    )
    if rows and all(row["partitions"] == partitions for row in rows):
        return
    start = min((row["position"] for row in rows), default=0)
    await connection.execute('DELETE FROM rayfold_checkpoint WHERE "table" = $1', table)
    await connection.executemany(
        "INSERT INTO rayfold_checkpoint VALUES ($1, $2, $3, $4)",
        [(table, partition, partitions, start) for partition in range(partitions)],
    )
