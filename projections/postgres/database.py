"""One Postgres server that answers queries: the primary, or a streaming replica of it."""

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
"""Seconds for a statement, or a connection."""

SILENCE = 2.0
"""Seconds without an answer after which a server that is looked at counts as not ready."""

CONNECTIONS = 8
"""At most, from one process to one server."""

READERS = "rayfold reader "
"""What the names of such processes begin with, as Postgres knows them."""

_NAME = READERS + uuid4().hex[:12]

_SETTINGS = {"application_name": _NAME, **BY_INDEX, "enable_sort": "off"}
"""A page comes in the order of an index, and only as much of it as the page has."""

AS_USUAL = "SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on"
"""For statements of authors, which may well read whole tables: they are planned each time."""


_OTHERWISE = (
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,  # no comparison: a column is of another type
    asyncpg.DatatypeMismatchError,
)
"""What Postgres says where a table has not the columns that are asked for."""


def unreadable(reason: str) -> PostgresUnavailable:
    """Return what to say of rows that are kept otherwise; the reason is told, so it has no values.

    While a release follows another, tables are the new one's already: gateways of the one before
    read what both have in common.
    """
    told = "the rows in Postgres are not as this release keeps them: another follows, or did"
    return PostgresUnavailable(f"{told}: {reason}")


def unanswered(error: BaseException) -> PostgresUnavailable:
    """Return why a statement has no answer."""
    if isinstance(error, _OTHERWISE):
        return unreadable(why(error))
    return PostgresUnavailable(f"Postgres does not answer: {why(error)}")


class Database:
    """A pool of connections. `positions` is how far each table was, when last seen."""

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
        """See how far it is; connect where that was not possible before.

        One that is silent keeps nobody waiting for long: all that is looked at waits for each.
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
        """Raise `PostgresUnavailable` if it does not answer."""
        await self._connected()

    async def _connected(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._connecting:  # of two pools nobody would close the first
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
        """Open a transaction that writes nothing and sees the rows of one moment.

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
                    await connection.reset()  # an author's statement may have set something
                except BaseException:
                    with suppress(asyncpg.InterfaceError):  # it is lost already
                        connection.terminate()  # what it has set, or locked, goes with it
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
        """Return what operators are told of it; `end` is the log's, as a position."""
        position = min(self.positions.values(), default=0)
        return {
            "part": self.name,
            "kind": "postgres-read",
            "ready": self.ready,
            "position": position,
            "lag": max(end - position, 0),
            **({"error": self.error} if self.error else {}),
        }
