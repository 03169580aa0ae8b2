"""The tables of states, and our own beside them: outbox, commands, layouts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from actors.errors import WriteSideError
from rayfold import Registry
from rayfold.aggregate import AggregateType
from rayfold.state_layout import Layout, Place, Table

if TYPE_CHECKING:
    import asyncpg

Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

SCHEMA = "rayfold_state"
"""The Postgres schema of these tables. People may read the tables of states there."""

OWN = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}._layout (
    category text PRIMARY KEY, number int NOT NULL, tables json NOT NULL,
    previous json NOT NULL DEFAULT 'null', remains json NOT NULL DEFAULT '{{}}',
    storage text NOT NULL DEFAULT 'state', filled boolean NOT NULL DEFAULT false,
    since timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS {SCHEMA}._outbox (
    stream text COLLATE "C" NOT NULL, revision bigint NOT NULL, id uuid NOT NULL,
    type text NOT NULL, data bytea NOT NULL, metadata bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (stream, revision))
    WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE IF NOT EXISTS {SCHEMA}._command (
    stream text COLLATE "C" NOT NULL, number bigint NOT NULL, id uuid NOT NULL,
    fingerprint text NOT NULL, revision bigint NOT NULL, at double precision NOT NULL,
    PRIMARY KEY (stream, number));
"""
"""These names are free, as no aggregate has a category that begins with `_`.

A layout's `previous` is `[number, tables]` of the one before, which old code may still use;
`remains` is what only that one needs. `filled`: every stream of the log has its row.
"""


class LayoutDiffers(WriteSideError):
    """The tables of a state have another layout than the code needs: see `rayfold migrate`."""


class Found(NamedTuple):
    """The current layout of the tables: each migration increments `number`."""

    number: int
    tables: dict[str, dict[str, list[Any]]]
    previous: list[Any] | None = None
    left: dict[str, list[str]] = {}  # noqa: RUF012
    storage: str = "state"
    filled: bool = False


def name_of(table: Table) -> str:
    """Return a table's name in SQL."""
    return f'{SCHEMA}."{table.name}"'


async def prepare(
    connection: Connection, aggregates: Sequence[AggregateType]
) -> dict[AggregateType, int]:
    """Create the tables of aggregates that have none; return each one's layout number.

    Code with the previous layout may go on; it gets that layout's number.

    Raises:
        LayoutDiffers: existing tables have another layout.
    """
    numbers = {}
    async with connection.transaction():
        await lock(connection)
        await connection.execute(OWN)
        for aggregate in aggregates:
            found, tables = (
                await layout_found(connection, aggregate.category),
                aggregate.layout().described(),
            )
            if found is None:
                for table in aggregate.layout().tables:
                    await connection.execute(creation_of(aggregate.layout(), table))
                await connection.execute(
                    f"INSERT INTO {SCHEMA}._layout (category, number, tables) VALUES ($1, 1, $2)",
                    aggregate.category,
                    json.dumps(tables),
                )
                numbers[aggregate] = 1
            elif found.tables == tables:
                numbers[aggregate] = found.number
            elif found.previous is not None and found.previous[1] == tables:
                numbers[aggregate] = found.previous[0]
            else:
                raise LayoutDiffers(
                    f"the tables of {aggregate.category!r} in Postgres are of another layout than"
                    f" {aggregate.state_type.__qualname__}: run `rayfold migrate --plan`, then"
                    " `rayfold migrate`"
                )
    return numbers


async def moved(connection: Connection, registry: Registry) -> list[str]:
    """Return categories that are stored in another way than the code declares, as recorded."""
    if await connection.fetchval(f"SELECT to_regclass('{SCHEMA}._layout')") is None:
        return []
    stored = {each.category for each in registry.state_stored}
    rows = await connection.fetch(f"SELECT category, storage FROM {SCHEMA}._layout")
    return [
        row["category"]
        for row in rows
        if row["category"] in registry.aggregates
        and (row["storage"] == "state") is not (row["category"] in stored)
    ]


async def lock(connection: Connection) -> None:
    """Lock until the transaction's end: one migration at a time."""
    # The same lock as the read side's.
    await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x5261_7966)


async def layout_found(connection: Connection, category: str) -> Found | None:
    """Return the layout of a category's tables; None if there are none."""
    row = await connection.fetchrow(f"SELECT * FROM {SCHEMA}._layout WHERE category = $1", category)
    if row is None:
        return None
    return Found(
        row["number"],
        json.loads(row["tables"]),
        json.loads(row["previous"]),
        json.loads(row["remains"]),
        row["storage"],
        row["filled"],
    )


def creation_of(layout: Layout, table: Table) -> str:
    """Return SQL that creates a table."""
    columns = [
        '_id text COLLATE "C" NOT NULL',
        *(f"{name} int NOT NULL" for name in table.key[1:]),
    ]
    if table is layout.root:
        columns += ["_version bigint NOT NULL", "_began bigint NOT NULL", "_layout int NOT NULL"]
    columns += [column_of(place) for place in table.places]
    key = ", ".join(table.key)
    return f"CREATE TABLE {name_of(table)} ({', '.join(columns)}, PRIMARY KEY ({key}))"


def column_of(place: Place) -> str:
    """Return SQL for a column."""
    null = "" if place.nullable else " NOT NULL"
    return f"{place.column.quoted} {place.column.sql_type}{null}"
