"""The attempts of a reactor at each event, in Postgres: begun, failed, done or parked.

They are recorded before a handler begins and after it ends. So an event is not handled again if its
acknowledgement was lost, and the next attempt is told if an event may have been handled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from eventstore.records import RawRecord
from projections.parked_pages import EVERYTHING, Asked
from projections.poison import NAMED, Parked
from projections.postgres.connections import connected
from rayfold.runtime.postgres import FAILURES

if TYPE_CHECKING:
    import asyncpg

    from projections.postgres.generations import Connection

    Pool = asyncpg.Pool[asyncpg.Record]

_IS_PARKED = "state IN ('parked', 'again')"
"""The condition of the index. See `AGAIN`."""

TABLES = f"""
CREATE TABLE IF NOT EXISTS rayfold_reactor (
    reactor text PRIMARY KEY, "group" text NOT NULL, began bigint NOT NULL);
CREATE TABLE IF NOT EXISTS rayfold_reaction (
    reactor text NOT NULL, stream text NOT NULL, revision bigint NOT NULL,
    position bigint NOT NULL, state text NOT NULL, attempts int NOT NULL,
    error text NOT NULL DEFAULT '', PRIMARY KEY (reactor, stream, revision));
CREATE INDEX IF NOT EXISTS rayfold_reaction_done
    ON rayfold_reaction (reactor, position) WHERE state = 'done';
CREATE INDEX IF NOT EXISTS rayfold_reaction_parked
    ON rayfold_reaction (reactor, position) WHERE {_IS_PARKED};
DO $$ BEGIN  -- a backup reads it for hours, perhaps, and then it stays
    SET LOCAL lock_timeout = '1s';
    DROP INDEX IF EXISTS rayfold_reaction_place;
    SET LOCAL lock_timeout = DEFAULT;
EXCEPTION WHEN lock_not_available THEN NULL;
END $$;
"""
"""An event is only found by the primary key. While the table is small, Postgres would consider an
index of all states as good, and go through all events of a reactor for one.
"""

_ALL = (
    "SELECT stream, revision, position, error FROM rayfold_reaction"
    f" WHERE reactor = $1 AND {_IS_PARKED} AND position >= $2 ORDER BY position LIMIT $3"
)
_ONE = (
    "SELECT stream, revision, position, error, state FROM rayfold_reaction"
    " WHERE reactor = $1 AND stream = $2 AND revision = $3"
)
_FIRST = (
    "SELECT stream, revision, position, error, (SELECT count(*) FROM rayfold_reaction"
    f" WHERE reactor = $1 AND {_IS_PARKED}) AS total FROM rayfold_reaction"
    f" WHERE reactor = $1 AND {_IS_PARKED} ORDER BY position LIMIT $2"
)

BEGUN, FAILED, DONE, PARKED = "begun", "failed", "done", "parked"

AGAIN = "again"
"""Parked, and being tried again. The server has its acknowledgement and delivers it to no other
consumer, so it is listed as parked until that attempt has ended, as its process may die.
"""

_ON_LIST = (PARKED, AGAIN)


class Begun(NamedTuple):
    """A recorded attempt. `interrupted`: the previous one has not ended."""

    number: int
    interrupted: bool


class Attempts:
    """The attempts of one reactor; many consumers may work at once."""

    def __init__(self, reactor: str) -> None:
        self._reactor = reactor

    async def begin(self, pool: Pool, raw: RawRecord, *, again: bool = False) -> Begun | None:
        """Record that an attempt begins; return None if the event is done or parked.

        `again` only begins an attempt at a parked event.
        """
        wanted, begun = (_ON_LIST, AGAIN) if again else ((BEGUN, FAILED), BEGUN)
        async with pool.acquire() as connection, connection.transaction():
            known = await connection.fetchrow(
                "SELECT state, attempts FROM rayfold_reaction"
                " WHERE reactor = $1 AND stream = $2 AND revision = $3 FOR UPDATE",
                *self._place(raw),
            )
            if known is None:
                if again:
                    return None
                await connection.execute(
                    "INSERT INTO rayfold_reaction VALUES ($1, $2, $3, $4, $5, 1)",
                    *self._place(raw),
                    raw.position,
                    BEGUN,
                )
                return Begun(1, False)
            if known["state"] not in wanted:
                return None
            await connection.execute(
                "UPDATE rayfold_reaction SET state = $4, attempts = attempts + 1"
                " WHERE reactor = $1 AND stream = $2 AND revision = $3",
                *self._place(raw),
                begun,
            )
            return Begun(known["attempts"] + 1, known["state"] == begun)

    async def end(self, pool: Pool, raw: RawRecord, state: str, error: str = "") -> None:
        """Record how an attempt ended."""
        await pool.execute(
            "UPDATE rayfold_reaction SET state = $4, error = $5"
            " WHERE reactor = $1 AND stream = $2 AND revision = $3",
            *self._place(raw),
            state,
            error.replace("\x00", "\\0"),
        )

    async def end_late(
        self, connected: Pool | Connection, raw: RawRecord, number: int, state: str, error: str
    ) -> bool:
        """Record a result after Postgres was away, or before the consumer leaves; return False if
        another attempt has begun since.

        A cancelled attempt (`BEGUN`) does not count: its handler did not fail.
        """
        noted = await connected.fetchval(
            "UPDATE rayfold_reaction SET state = $4, error = $5, attempts = attempts - $6"
            " WHERE reactor = $1 AND stream = $2 AND revision = $3"
            f" AND state = '{BEGUN}' AND attempts = $7 RETURNING true",
            *self._place(raw),
            state,
            error.replace("\x00", "\\0"),
            int(state == BEGUN),
            number,
        )
        return noted is not None

    @asynccontextmanager
    async def alone(self, dsn: str, key: str) -> AsyncIterator[bool]:
        """Lock what is parked under a key; yield False if another process has it.

        The lock is among all processes of the reactor: the state cannot serve as one, as a process
        may die and leave it. It belongs to a transaction, as a pooler does not keep sessions, and
        has its own connection, so that more events can be tried at once than the pool has
        connections. If that connection is cut, the lock is lost and the work under it is cancelled,
        as another process may begin.

        Raises:
            PostgresUnavailable: Postgres does not answer, or has cut the connection.
        """
        async with connected(dsn) as connection:
            holding = connection.transaction()
            await holding.start()
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            name = f"rayfold reactor {self._reactor} {key}"
            lock = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))"

            def cut(_: object) -> None:
                with suppress(RuntimeError):  # everything was done before this took effect
                    held.reschedule(0)  # in the past: it ends now

            try:
                async with asyncio.timeout(None) as held:
                    connection.add_termination_listener(cut)
                    try:
                        yield await connection.fetchval(lock, name)
                    finally:
                        connection.remove_termination_listener(cut)
            finally:
                with suppress(*FAILURES):  # a cut connection undoes nothing
                    await holding.rollback()

    async def forget(self, pool: Pool, position: int) -> None:
        """Delete entries of done events up to a position: the server never delivers these again."""
        await pool.execute(
            "DELETE FROM rayfold_reaction WHERE reactor = $1 AND state = 'done' AND position <= $2",
            self._reactor,
            position,
        )

    async def parked(self, pool: Pool, asked: Asked = EVERYTHING) -> list[Parked]:
        """Return what is parked, `in_order`, as far as `Asked.of` needs it.

        An event is parked once, so no two entries have the same position.
        """
        most = asked.limit + 1 if asked.limit and not asked.key else None
        found = await pool.fetch(_ALL, self._reactor, asked.after[0], most)
        return [self._parked(each) for each in found]

    async def find_parked(self, pool: Pool, key: str) -> Parked | None:
        """Return what is parked under a key, None if nothing is."""
        revision, _, stream = key.partition("@")
        if not revision.isdecimal() or len(revision) > 18:
            return None
        record = await pool.fetchrow(_ONE, self._reactor, stream, int(revision))
        if record is None or record["state"] not in _ON_LIST:
            return None
        return self._parked(record)

    async def first_parked(self, pool: Pool) -> tuple[int, list[Parked]]:
        """Return the number of parked events, and the first ones in the log's order, for a status.

        After a long outage of a receiver there may be too many to load for that.
        """
        records = await pool.fetch(_FIRST, self._reactor, NAMED)
        return (records[0]["total"] if records else 0), [self._parked(each) for each in records]

    def _parked(self, record: asyncpg.Record) -> Parked:
        stream, revision = record["stream"], record["revision"]
        key = key_of(stream, revision)
        return Parked(self._reactor, key, stream, revision, record["position"], record["error"])

    def _place(self, raw: RawRecord) -> tuple[str, str, int]:
        return self._reactor, raw.stream, raw.revision


def key_of(stream: str, revision: int) -> str:
    """Return the name that operators use for a parked event."""
    return f"{revision}@{stream}"
