"""The tables of views in Postgres: one per view, typed by its fields."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import asyncpg

from projections.postgres import generations
from projections.postgres.generations import Live, discard, partition, position_of
from projections.postgres.row_codec import RowCodec, fingerprint_of
from rayfold import ViewDefinition
from rayfold.tenants import MARK, TENANT

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]

__all__ = [
    "begin_generation",
    "create",
    "create_indexes",
    "discard",
    "live",
    "partition",
    "position_of",
    "prepare",
    "switch",
    "table_of",
]


def table_of(view: ViewDefinition) -> str:
    """Return the name of the live table, which people's own SQL uses too: `order_details`."""
    return generations.relation_of(view.name)


def live(view: ViewDefinition) -> Live:
    """Return the view as it is identified in `generations`."""
    return Live(view.name, table_of(view), "TABLE", fingerprint_of(view))


async def prepare(
    connection: _Connection, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
) -> list[ViewDefinition]:
    """Create what is missing; return the views whose live table has another definition, or is gone.

    Those keep their table until a new generation replaces it. The remains of unfinished builds are
    removed.
    """
    async with connection.transaction():
        await generations.lock_migrations(connection)
        await connection.execute(generations.OWN)
        await generations.remove_unfinished(connection, "TABLE")
        stale = []
        for view in views:
            table = table_of(view)
            known = await generations.fingerprint_of_live(connection, view.name)
            if known is None:
                await create(connection, view, table)
                await create_indexes(connection, view, table)
                await generations.become(connection, live(view))
            elif await generations.is_stale(connection, live(view), known):
                stale.append(view)
            await partition(connection, table, partitions[view.name])
    return stale


async def create(connection: _Connection, view: ViewDefinition, table: str) -> None:
    """Create an empty table for the view's rows."""
    columns = ",".join(f"{column.quoted} {column.sql_type}" for column in RowCodec(view).columns)
    if view.tenants:  # for people's own SQL too; Postgres computes it
        of_key = f"split_part(_key, '{MARK}', 1)"
        columns += f',{TENANT} text COLLATE "C" GENERATED ALWAYS AS ({of_key}) STORED'
    await connection.execute(
        # Sorted by bytes, whatever the database's collation: pages have the same order in all
        # stores.
        f'CREATE TABLE "{table}" (_key text COLLATE "C" PRIMARY KEY, {columns},'
        " _revision bigint NOT NULL, _position bigint NOT NULL, _started bigint NOT NULL)"
        # This leaves room for updates in place, as rows change a few times each. Reading a list
        # skips rows that have left it until the next vacuum, which by default waits for a fifth of
        # all rows.
        " WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05)"
    )


async def create_indexes(connection: _Connection, view: ViewDefinition, table: str) -> None:
    """Create the indexes for the view's queries: on a full table, faster than row by row."""
    # Postgres chooses their names: it shortens long names and keeps them unique.
    of = f"{TENANT}, " if view.tenants else ""
    for column in (*(f'"{field}", ' for field in view.indexes), ""):
        await connection.execute(f'CREATE INDEX ON "{table}" ({of}{column}_started, _key)')


async def begin_generation(connection: _Connection, view: ViewDefinition) -> str:
    """Create an empty table beside the live one, at position 0; return its name."""
    async with connection.transaction():
        table = await generations.name_next(connection, table_of(view))
        await create(connection, view, table)
        await partition(connection, table, 1)
    return table


async def switch(
    connection: _Connection,
    view: ViewDefinition,
    built: str,
    reached: Callable[[int], Awaitable[int | None]],
) -> None:
    """Replace the live table by the built one: see `generations.switch`."""
    await generations.switch(connection, live(view), built, reached)
