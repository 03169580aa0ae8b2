"""One Postgres server that answers queries: the primary, or a streaming replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import asyncpg

from projections.errors import PostgresUnavailable
from rayfold.runtime.postgres import BY_INDEX, FAILURES, create_pool, left_as_it_is, why

TIMEOUT = 10.0
"""Seconds that a statement or connecting may take."""

SILENCE = 2.0
"""Seconds without an answer after which a checked server counts as not ready."""

CONNECTIONS = 8
"""The most connections from one process to one server."""

READERS = "rayfold reader "
"""The prefix of the application names that these processes have in Postgres."""

_NAME = READERS + uuid4().hex[:12]

_SETTINGS = {"application_name": _NAME, **BY_INDEX, "enable_sort": "off"}
"""Settings for pages: read in the order of an index, and no more than the page needs."""

AS_USUAL = "SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on"
"""Settings for the domain's own statements, which may read whole tables: planned each time."""


_OTHERWISE = (
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,  # no such comparison: a column has another type
    asyncpg.DatatypeMismatchError,
)
"""The errors of Postgres if a table does not have the requested columns."""


def unreadable(reason: str) -> PostgresUnavailable:
    """Return the error for rows in another layout; the reason is shown, so it must not have values.

    During an upgrade, tables already belong to the new release: gateways of the old one read the
    columns that both have in common.
    """
    told = "the rows in Postgres are those of another release, which replaces this one"
    return PostgresUnavailable(f"{told}: {reason}")


def unanswered(error: BaseException) -> PostgresUnavailable:
    """Return the error for a statement without an answer."""
    if isinstance(error, _OTHERWISE):
        return unreadable(why(error))
    return PostgresUnavailable(f"Postgres does not answer: {why(error)}")


class Database:
    """A pool of connections. `positions` has each table's position when last checked."""

    def __init__(self, dsn: str, name: str) -> None:
        self.name = name
        self.dsn = dsn
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._connecting = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self.positions: dict[str, int] = {}
        self.ready = False
        self.open = 0
        self.error: str | None = None

    async def look(self) -> None:
        """Check the server's positions; connect if that was not possible before.

        A server that does not respond must not delay long: all checks wait for each other.
        """
        if self._looking is not None and not self._looking.done():
            return
        self._looking = asyncio.create_task(self._look())
        await asyncio.wait([self._looking], timeout=SILENCE)
        if self._looking.done():
            self._looking.result()
        else:
            self.ready, self.error = False, "Postgres does not answer"

    async def _look(self) -> None:
        try:
            records = await self.fetch(
                'SELECT "table", min(position) AS position FROM rayfold_checkpoint GROUP BY 1'
            )
        except PostgresUnavailable as error:
            self.ready, self.error = False, str(error)
            return
        self.positions = {record["table"]: record["position"] for record in records}
        self.ready, self.error = True, None

    async def connect(self) -> None:
        """Connect; raise `PostgresUnavailable` if the server does not answer."""
        await self._connected()

    async def _connected(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._connecting:  # with two pools, the first would never be closed
            if self._pool is None:
                try:
                    self._pool = await create_pool(
                        self.dsn,
                        min_size=1,
                        max_size=CONNECTIONS,
                        timeout=TIMEOUT,
                        command_timeout=TIMEOUT,
                        server_settings=_SETTINGS,
                        reset=left_as_it_is,
                    )
                except (*FAILURES, ValueError) as error:
                    raise PostgresUnavailable(f"Postgres does not answer: {why(error)}") from error
            return self._pool

    async def fetch(self, statement: str, *parameters: Any) -> list[asyncpg.Record]:
        """Return the records of a statement.

        Raises:
            PostgresUnavailable: it does not answer.
        """
        pool = self._pool or await self._connected()
        self.open += 1
        try:
            return await pool.fetch(statement, *parameters)
        except FAILURES as error:
            self.ready = False
            raise unanswered(error) from error
        finally:
            self.open -= 1

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[asyncpg.Record]]:
        """Open a read-only transaction that sees the rows of one moment.

        Raises:
            PostgresUnavailable: it does not answer.
        """
        pool = self._pool or await self._connected()
        self.open += 1
        try:
            async with pool.acquire() as connection:
                try:
                    async with connection.transaction(isolation="repeatable_read", readonly=True):
                        yield connection
                    await connection.reset()  # the domain's statement may have changed a setting
                except BaseException:
                    with suppress(asyncpg.InterfaceError):  # the connection is lost already
                        connection.terminate()  # this also removes its settings and locks
                    raise
        except FAILURES as error:
            self.ready = False
            raise unanswered(error) from error
        finally:
            self.open -= 1

    def close(self) -> None:
        """Close all connections at once."""
        if self._looking is not None:
            self._looking.cancel()
        if self._pool is not None:
            self._pool.terminate()

    def status(self, end: int) -> dict[str, Any]:
        """Return its status for operators; `end` is the log's last position."""
        position = min(self.positions.values(), default=0)
        return {
            "part": self.name,
            "kind": "postgres-read",
            "ready": self.ready,
            "position": position,
            "lag": max(end - position, 0),
            **({"error": self.error} if self.error else {}),
        }
