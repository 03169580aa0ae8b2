"""A stack's identity: one log, one database and one Ray namespace, which no other stack shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.errors import StartError
from deploy.stack import release, routing
from projections.postgres.generations import lock_migrations

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

LAYOUT = 1
"""The version of the data in Postgres and on the log. Data of a newer version is not touched."""

_TABLES = """
CREATE TABLE IF NOT EXISTS rayfold_stack (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id text NOT NULL,
    name text NOT NULL,
    store text NOT NULL,
    domain text NOT NULL,
    layout integer NOT NULL,
    owner text NOT NULL DEFAULT '',
    place text NOT NULL DEFAULT '',
    epoch bigint NOT NULL DEFAULT 0,
    until timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE TABLE IF NOT EXISTS rayfold_wanted (target text PRIMARY KEY, number integer NOT NULL);
CREATE TABLE IF NOT EXISTS rayfold_console_sessions (
    name bytea PRIMARY KEY,
    sealed bytea NOT NULL,
    until timestamptz NOT NULL
);
"""


async def identify(connection: Connection, name: str, store: str, new_id: str, domain: str) -> str:
    """Return the id of the stack that owns the database: this one from now on, if none does.

    Raises:
        StartError: it belongs to another stack, another log, or a newer Rayfold.
    """
    async with connection.transaction():
        await lock_migrations(connection)
        await connection.execute(_TABLES)
        await connection.execute(routing.TABLE)
        await connection.execute(release.TABLE)
        await connection.execute(
            "INSERT INTO rayfold_stack (id, name, store, domain, layout)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            new_id,
            name,
            store,
            domain,
            LAYOUT,
        )
        row = await connection.fetchrow("SELECT * FROM rayfold_stack")
    assert row is not None
    check(row, name, store)
    return str(row["id"])


async def read(connection: Connection) -> asyncpg.Record | None:
    """Return the row of the stack that owns the database, None if none does."""
    if await connection.fetchval("SELECT to_regclass('rayfold_stack')") is None:
        return None
    return await connection.fetchrow("SELECT * FROM rayfold_stack")


async def owned_now(connection: Connection, length: float) -> bool:
    """Return whether a process holds the lease, which lasts this many seconds.

    A lease that lasts longer is from before Postgres' clock was set back: taking it will tell.
    """
    statement = (
        "SELECT until BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => $1)"
        " FROM rayfold_stack"
    )
    return bool(await connection.fetchval(statement, length))


def check(row: asyncpg.Record, name: str, store: str) -> None:
    """Compare the row with the given name and store.

    Raises:
        StartError: it belongs to another stack, another log, or a newer Rayfold.
    """
    if row["name"] != name:
        raise StartError(
            f"the database belongs to the stack {row['name']!r}, not to {name!r}:"
            f" give --stack {row['name']}, or a --postgres of its own"
        )
    if row["store"] != store:
        raise StartError(
            f"the database of the stack {name!r} belongs to another event store"
            f" ({row['store']}, not {store}): give that one as --eventstore,"
            " or a --postgres of its own"
        )
    if row["layout"] > LAYOUT:
        raise StartError(
            f"the database of the stack {name!r} is of a newer Rayfold"
            f" (layout {row['layout']}, here {LAYOUT}): run that one"
        )
