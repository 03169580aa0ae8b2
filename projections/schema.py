"""The tables of the Postgres read side, and their generations.

A view's live rows are in the table of its name, `order_details`, for people as for us. A
new generation is built under another name and takes the live one's place by renaming, in
the transaction in which it has come as far: a reader sees one or the other, whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import asyncpg

from projections.columns import RowCodec, fingerprint_of
from projections.errors import ProjectionError
from rayfold import View

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]

_LOCK = 0x5261_7966  # "Rayf": one migration at a time

_OWN = """
CREATE TABLE IF NOT EXISTS rayfold_view (
    view text PRIMARY KEY, fingerprint text NOT NULL, switched_at timestamptz NOT NULL);
CREATE SEQUENCE IF NOT EXISTS rayfold_generation;
CREATE TABLE IF NOT EXISTS rayfold_checkpoint (
    "table" text NOT NULL, partition int NOT NULL, partitions int NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY ("table", partition));
CREATE TABLE IF NOT EXISTS rayfold_parked (
    "table" text NOT NULL, key text NOT NULL, stream text NOT NULL,
    revision bigint NOT NULL, position bigint NOT NULL, error text NOT NULL,
    PRIMARY KEY ("table", key, stream));
CREATE TABLE IF NOT EXISTS rayfold_held (
    "table" text NOT NULL, key text NOT NULL, stream text NOT NULL,
    revision bigint NOT NULL, position bigint NOT NULL,
    PRIMARY KEY ("table", key, stream, position));
"""

_BUILDING = "__"
"""Between a live table's name and a generation's number. No view's name has it."""


def table_of(view: type[View]) -> str:
    """The live table, also for people's own SQL: `order_details`."""
    return view.name.replace("-", "_")


async def prepare(
    connection: _Connection, views: Sequence[type[View]], partitions: Mapping[str, int]
) -> list[type[View]]:
    """Makes what is missing; gives the views whose live table is of another definition.

    Those keep their table until a new generation takes its place. What is left of builds
    that nobody finished is removed.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await _forget_first_layout(connection)
        await connection.execute(_OWN)
        await _remove_unfinished(connection)
        stale = []
        for view in views:
            table = table_of(view)
            known = await connection.fetchval(
                "SELECT fingerprint FROM rayfold_view WHERE view = $1", view.name
            )
            if known is None:
                await create(connection, view, table)
                await create_indexes(connection, view, table)
                await _become(connection, view)
            elif known != fingerprint_of(view):
                stale.append(view)
            await partition(connection, table, partitions[view.name])
    return stale


async def create(connection: _Connection, view: type[View], table: str) -> None:
    """An empty table for the view's rows."""
    columns = ",".join(f"{column.quoted} {column.sql_type}" for column in RowCodec(view).columns)
    await connection.execute(
        f'CREATE TABLE "{table}" (_key text PRIMARY KEY, {columns},'
        " _revision bigint NOT NULL, _position bigint NOT NULL, _started bigint NOT NULL)"
        " WITH (fillfactor = 80)"  # room for updates in place: rows change a few times each
    )


async def create_indexes(connection: _Connection, view: type[View], table: str) -> None:
    """What the view's queries need. On a full table this is quicker than row by row."""
    # Postgres names them itself: it knows how to cut a long name and keep it unique.
    for column in (*(f'"{field}", ' for field in view.indexes), ""):
        await connection.execute(f'CREATE INDEX ON "{table}" ({column}_started)')


async def partition(connection: _Connection, table: str, partitions: int) -> None:
    """Cuts the key space of a table into so many partitions.

    Cutting it anew starts every partition where the slowest one was: rows know their own
    position, so what they have already is not folded in twice.
    """
    rows = await connection.fetch(
        'SELECT position, partitions FROM rayfold_checkpoint WHERE "table" = $1 FOR UPDATE', table
    )
    if rows and all(row["partitions"] == partitions for row in rows):
        return
    start = min((row["position"] for row in rows), default=0)
    await connection.execute('DELETE FROM rayfold_checkpoint WHERE "table" = $1', table)
    await connection.executemany(
        "INSERT INTO rayfold_checkpoint VALUES ($1, $2, $3, $4)",
        [(table, number, partitions, start) for number in range(partitions)],
    )


async def begin_generation(connection: _Connection, view: type[View]) -> str:
    """An empty table beside the live one, at position 0; gives its name."""
    async with connection.transaction():
        number = await connection.fetchval("SELECT nextval('rayfold_generation')")
        table = f"{table_of(view)}{_BUILDING}{number}"
        await create(connection, view, table)
        await partition(connection, table, 1)
    return table


async def switch(
    connection: _Connection,
    view: type[View],
    built: str,
    reached: Callable[[int], Awaitable[bool]],
) -> None:
    """The built generation takes the live one's place, at no earlier a position.

    `reached` waits until the build has come to a position. Meanwhile the live table stands
    still: its projectors wait for their checkpoints, which they lock first of all, and find
    them moved. The old table is dropped.

    Raises:
        ProjectionError: the build did not come so far; nothing has changed.
    """
    live = table_of(view)
    old = f"{built}_old"
    async with connection.transaction():
        locked = await connection.fetch(
            'SELECT position FROM rayfold_checkpoint WHERE "table" = $1 FOR UPDATE', live
        )
        position = max((row["position"] for row in locked), default=0)
        if not await reached(position):
            raise ProjectionError(f"the new generation of {view.name!r} did not catch up")
        at = await connection.fetchval(
            'SELECT position FROM rayfold_checkpoint WHERE "table" = $1 FOR UPDATE', built
        )
        if at is None or at < position:
            raise ProjectionError(f"the new generation of {view.name!r} is gone")
        await connection.execute(f'ALTER TABLE "{live}" RENAME TO "{old}"')
        await connection.execute(f'ALTER TABLE "{built}" RENAME TO "{live}"')
        await connection.execute('DELETE FROM rayfold_checkpoint WHERE "table" = $1', built)
        await connection.execute(
            'UPDATE rayfold_checkpoint SET position = $2 WHERE "table" = $1', live, at
        )
        for table in ("rayfold_parked", "rayfold_held"):
            await connection.execute(f'DELETE FROM {table} WHERE "table" = $1', live)
            await connection.execute(
                f'UPDATE {table} SET "table" = $1 WHERE "table" = $2', live, built
            )
        await _become(connection, view)
    await connection.execute(f'DROP TABLE "{old}"')


async def position_of(connection: _Connection, table: str) -> int:
    """How far the furthest partition of a table has come."""
    statement = 'SELECT max(position) FROM rayfold_checkpoint WHERE "table" = $1'
    return await connection.fetchval(statement, table) or 0


async def discard(connection: _Connection, table: str) -> None:
    """Removes a generation that is not live."""
    async with connection.transaction():
        await connection.execute(f'DROP TABLE IF EXISTS "{table}"')
        for own in ("rayfold_checkpoint", "rayfold_parked", "rayfold_held"):
            await connection.execute(f'DELETE FROM {own} WHERE "table" = $1', table)


async def _become(connection: _Connection, view: type[View]) -> None:
    await connection.execute(
        "INSERT INTO rayfold_view VALUES ($1, $2, now()) ON CONFLICT (view)"
        " DO UPDATE SET fingerprint = excluded.fingerprint, switched_at = now()",
        view.name,
        fingerprint_of(view),
    )


async def _remove_unfinished(connection: _Connection) -> None:
    tables = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        " AND tablename ~ '__[0-9]+(_old)?$'"
        " AND split_part(tablename, '__', 1) IN (SELECT replace(view, '-', '_') FROM rayfold_view)"
    )
    for record in tables:
        await discard(connection, record["tablename"])


async def _forget_first_layout(connection: _Connection) -> None:
    """Version 0.1 named tables by their definition, with a SQL view before each.

    Their rows are in the log: they are folded again.
    """
    if await connection.fetchval("SELECT to_regclass('rayfold_view') IS NOT NULL"):
        return
    if await connection.fetchval("SELECT to_regclass('rayfold_checkpoint') IS NULL"):
        return
    for record in await connection.fetch('SELECT DISTINCT "table" FROM rayfold_checkpoint'):
        await connection.execute(f'DROP TABLE IF EXISTS "{record["table"]}" CASCADE')
    await connection.execute("DROP TABLE rayfold_checkpoint, rayfold_parked")
