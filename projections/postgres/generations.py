"""Generations: what Postgres stores for one definition, and how the next one replaces it.

For a view this is a table, for a custom SQL projection a schema with its tables. The live one has
the plain name, which people use as well. A new one is built under another name and replaces the
live one by renaming, in the transaction in which it reaches the same position: a reader sees one or
the other, complete.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, TypeAlias

import asyncpg

from projections.errors import ProjectionError

log = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pooled: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

Kind = Literal["TABLE", "SCHEMA"]

BLOCKED = 1
"""Seconds that a rename or drop may wait for a lock, as all later users of the table wait behind
it.
"""

AGAIN = 5.0
"""Seconds until it is tried again."""

_BUILDING = "__"
"""The separator of a live one's name and a generation's number. No view's name has it."""

OWN = """
CREATE TABLE IF NOT EXISTS rayfold_view (
    view text PRIMARY KEY, fingerprint text NOT NULL, switched_at timestamptz NOT NULL);
CREATE SEQUENCE IF NOT EXISTS rayfold_generation;
CREATE TABLE IF NOT EXISTS rayfold_checkpoint (
    "table" text NOT NULL, partition int NOT NULL, partitions int NOT NULL,
    position bigint NOT NULL, epoch bigint NOT NULL DEFAULT nextval('rayfold_generation'),
    PRIMARY KEY ("table", partition));
CREATE TABLE IF NOT EXISTS rayfold_parked (
    "table" text NOT NULL, key text NOT NULL, stream text NOT NULL,
    revision bigint NOT NULL, position bigint NOT NULL, error text NOT NULL,
    by_store boolean NOT NULL DEFAULT false);
CREATE UNIQUE INDEX IF NOT EXISTS rayfold_parked_place
    ON rayfold_parked ("table", md5(key), md5(stream));
CREATE INDEX IF NOT EXISTS rayfold_parked_order ON rayfold_parked (position, "table");
CREATE TABLE IF NOT EXISTS rayfold_held (
    "table" text NOT NULL, key text NOT NULL, stream text NOT NULL,
    revision bigint NOT NULL, position bigint NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS rayfold_held_place
    ON rayfold_held ("table", md5(key), md5(stream), position);
CREATE TABLE IF NOT EXISTS rayfold_applied (
    "table" text NOT NULL, stream text NOT NULL, revision bigint NOT NULL,
    PRIMARY KEY ("table", stream));
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'rayfold_checkpoint'::regclass AND attname = 'epoch') THEN
        ALTER TABLE rayfold_checkpoint
            ADD COLUMN epoch bigint NOT NULL DEFAULT nextval('rayfold_generation');
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'rayfold_parked'::regclass AND attname = 'by_store') THEN
        ALTER TABLE rayfold_parked ADD COLUMN by_store boolean NOT NULL DEFAULT false;
    END IF;
    IF to_regclass('rayfold_parked_pkey') IS NOT NULL THEN
        ALTER TABLE rayfold_parked DROP CONSTRAINT rayfold_parked_pkey;
    END IF;
    IF to_regclass('rayfold_held_pkey') IS NOT NULL THEN
        ALTER TABLE rayfold_held DROP CONSTRAINT rayfold_held_pkey;
    END IF;
END $$;
"""
"""Our own tables, including upgrades from the previous layout.

A table is altered only if needed: even an `ALTER` that changes nothing waits for all readers of the
table, such as a backup, and all writers wait for it.

`table` is the name of a generation, or of the live one.

Parked keys may be too long for an index, which may be why they are parked.
"""

_BY_TABLE = ("rayfold_parked", "rayfold_held", "rayfold_applied")


class Live(NamedTuple):
    """A view or SQL projection. `relation` is its name in Postgres, `name` that in the domain."""

    name: str
    relation: str
    kind: Kind
    fingerprint: str


def relation_of(name: str) -> str:
    """Return its name in Postgres, which people's own SQL uses too: `order_details`."""
    return name.replace("-", "_")


async def lock_migrations(connection: Connection) -> None:
    """Lock until the transaction's end: one migration at a time."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x5261_7966)  # "Rayf"


async def fingerprint_of_live(connection: Connection | Pooled, name: str) -> str | None:
    """Return the fingerprint of the live one's definition; None if there is none yet."""
    statement = "SELECT fingerprint FROM rayfold_view WHERE view = $1"
    found: str | None = await connection.fetchval(statement, name)
    return found


async def is_stale(connection: Connection, live: Live, known: str) -> bool:
    """Return whether the live one has another definition than `live`, or was dropped."""
    return known != live.fingerprint or not await _is_there(connection, live)


async def partition(connection: Connection, table: str, partitions: int) -> None:
    """Divide the key space of a table into this number of partitions.

    Each new partition begins where the slowest old one was: rows have their own position, so events
    that they include are not folded again.
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


async def name_next(connection: Connection, relation: str) -> str:
    """Return a name for the next generation."""
    number = await connection.fetchval("SELECT nextval('rayfold_generation')")
    return f"{relation}{_BUILDING}{number}"


async def switch(
    connection: Connection,
    live: Live,
    built: str,
    reached: Callable[[int], Awaitable[int | None]],
    *,
    hold: Callable[[], Awaitable[int]] | None = None,
) -> None:
    """Replace the live generation by the built one, at the same position or a later one.

    `reached` waits until the build has come far enough: see `Reached`. Meanwhile the live one does
    not change: its projectors wait for the locks on their checkpoints, which they take first, and
    then find another epoch. Writers without checkpoint locks are stopped by `hold`, which returns
    the position that they may have reached. The old one is dropped, unless objects of other users
    depend on it.

    Raises:
        ProjectionError: the build did not come so far; nothing has changed.
    """
    old = f"{built}_old"
    while True:
        try:
            async with connection.transaction():
                await _take_place(connection, live, built, old, reached, hold)
            break
        except asyncpg.LockNotAvailableError:
            why = {"view": live.name}
            log.warning("a switch waits for a long read of the table", extra=why)
            await asyncio.sleep(AGAIN)
    await _drop(connection, live.kind, old)


async def _take_place(
    connection: Connection,
    live: Live,
    built: str,
    old: str,
    reached: Callable[[int], Awaitable[int | None]],
    hold: Callable[[], Awaitable[int]] | None,
) -> None:
    """See `switch`; runs in a transaction.

    A rename waits for all readers of the table, such as a backup that takes hours, and all other
    users wait for the rename: so it gives up soon. Afterwards readers wait for the end of the
    transaction, so slow work comes first: there may be as many parked rows as rows. It is not begun
    if the rename would have to wait.
    """
    position = await hold() if hold else 0
    locked = await connection.fetch(
        'SELECT position FROM rayfold_checkpoint WHERE "table" = $1 FOR UPDATE', live.relation
    )
    position = max((row["position"] for row in locked), default=0) if not hold else position
    enough = await reached(position)
    if enough is None:
        raise ProjectionError(f"the new generation of {live.name!r} did not catch up")
    at = await connection.fetchval(
        'SELECT position FROM rayfold_checkpoint WHERE "table" = $1 FOR UPDATE', built
    )
    if at is None or at < enough:
        raise ProjectionError(f"the new generation of {live.name!r} is gone")
    await connection.execute(f"SET LOCAL lock_timeout = '{BLOCKED}s'")
    is_there = await _is_there(connection, live)
    if live.kind == "TABLE":
        # The builder may still write to it without locking a checkpoint: events parked in its open
        # transaction would be recorded under the old name.
        await connection.execute(f'LOCK TABLE "{built}" IN ACCESS EXCLUSIVE MODE')
        if is_there:
            await _could_lock(connection, live.relation)
    for table in _BY_TABLE:
        await connection.execute(f'DELETE FROM {table} WHERE "table" = $1', live.relation)
        await connection.execute(
            f'UPDATE {table} SET "table" = $1 WHERE "table" = $2', live.relation, built
        )
    if is_there:
        await connection.execute(f'ALTER {live.kind} "{live.relation}" RENAME TO "{old}"')
    await connection.execute(f'ALTER {live.kind} "{built}" RENAME TO "{live.relation}"')
    await connection.execute('DELETE FROM rayfold_checkpoint WHERE "table" = $1', built)
    await connection.execute(
        "UPDATE rayfold_checkpoint SET position = $2, epoch = nextval('rayfold_generation')"
        ' WHERE "table" = $1',
        live.relation,
        at,
    )
    await become(connection, live)


async def _could_lock(connection: Connection, table: str) -> None:
    """Check whether a table can be locked exclusively, and release it again.

    Raises:
        asyncpg.LockNotAvailableError: it has been in use for too long.
    """
    attempt = connection.transaction()  # nested in another one: a savepoint
    await attempt.start()
    try:
        await connection.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')
    finally:
        await attempt.rollback()


async def position_of(connection: Connection, table: str) -> int:
    """Return the position of the furthest partition of a table."""
    statement = 'SELECT max(position) FROM rayfold_checkpoint WHERE "table" = $1'
    return await connection.fetchval(statement, table) or 0


async def become(connection: Connection, live: Live) -> None:
    """Record that the live one has this definition from now on."""
    await connection.execute(
        "INSERT INTO rayfold_view VALUES ($1, $2, now()) ON CONFLICT (view)"
        " DO UPDATE SET fingerprint = excluded.fingerprint, switched_at = now()",
        live.name,
        live.fingerprint,
    )


async def discard(connection: Connection, name: str, kind: Kind = "TABLE") -> None:
    """Remove a generation that is not live; see `_drop`."""
    async with connection.transaction():
        if not await _drop(connection, kind, name):
            return
        for own in ("rayfold_checkpoint", *_BY_TABLE):
            await connection.execute(f'DELETE FROM {own} WHERE "table" = $1', name)


async def remove_unfinished(connection: Connection, kind: Kind) -> None:
    """Drop the remains of unfinished builds."""
    where = (
        "SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()"
        if kind == "TABLE"
        else "SELECT nspname AS name FROM pg_namespace"
    )
    records = await connection.fetch(
        f"SELECT name FROM ({where}) AS known WHERE name ~ '__[0-9]+(_old)?$'"
        " AND split_part(name, '__', 1) IN (SELECT replace(view, '-', '_') FROM rayfold_view)"
        # A user's own table may have such a name, but has no checkpoint.
        " AND (name ~ '_old$' OR name IN (SELECT \"table\" FROM rayfold_checkpoint))"
    )
    for record in records:
        await discard(connection, record["name"], kind)


async def _is_there(connection: Connection, live: Live) -> bool:
    known_as = "to_regclass" if live.kind == "TABLE" else "to_regnamespace"
    statement = f"SELECT {known_as}($1) IS NOT NULL"
    found: bool = await connection.fetchval(statement, f'"{live.relation}"')
    return found


async def _drop(connection: Connection, kind: Kind, name: str) -> bool:
    """Drop a generation; return False if it stays, with its rows, until a later start.

    That is so if a view or key of another user depends on it, or if it is being read for long.
    """
    cascade = " CASCADE" if kind == "SCHEMA" else ""
    try:
        async with connection.transaction():  # the outer transaction goes on
            await connection.execute(f"SET LOCAL lock_timeout = '{BLOCKED}s'")
            await connection.execute(f'DROP {kind} IF EXISTS "{name}"{cascade}')
            await connection.execute("SET LOCAL lock_timeout = DEFAULT")
    except (asyncpg.DependentObjectsStillExistError, asyncpg.LockNotAvailableError) as error:
        why = {"table": name, "error": error.detail or str(error)}
        log.warning("an old table could not be dropped", extra=why)
        return False
    return True
