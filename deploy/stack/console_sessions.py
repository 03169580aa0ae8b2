"""Storing sessions of the console in Postgres, for all gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.console.sessions import SessionsLost
from rayfold.runtime.postgres import FAILURES, Connection, LastingConnection, why

WITHIN = 2.0
"""Seconds for Postgres to answer."""


class PostgresSessions:
    """See `KeptSessions`."""

    def __init__(self, dsn: str) -> None:
        self._postgres = LastingConnection(dsn, timeout=WITHIN, command_timeout=WITHIN)
        self._asking = asyncio.Lock()  # a connection runs one statement at a time

    async def keep(self, name: bytes, sealed: bytes, seconds: float) -> None:
        """See `KeptSessions`; expired sessions are removed."""
        async with self._connection() as connection:
            await connection.execute("DELETE FROM rayfold_console_sessions WHERE until < now()")
            await connection.execute(
                "INSERT INTO rayfold_console_sessions"
                " VALUES ($1, $2, now() + make_interval(secs => $3))",
                name,
                sealed,
                seconds,
            )

    async def find(self, name: bytes) -> bytes | None:
        """See `KeptSessions`."""
        statement = "SELECT sealed FROM rayfold_console_sessions WHERE name = $1 AND until > now()"
        async with self._connection() as connection:
            sealed: bytes | None = await connection.fetchval(statement, name)
            return sealed

    async def drop(self, name: bytes) -> None:
        """See `KeptSessions`."""
        async with self._connection() as connection:
            await connection.execute("DELETE FROM rayfold_console_sessions WHERE name = $1", name)

    def close(self) -> None:
        """Close the connection."""
        self._postgres.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with asyncio.timeout(WITHIN), self._asking:
                try:
                    yield await self._postgres.get()
                except BaseException:
                    self._postgres.close()  # its pending result belongs to no caller
                    raise
        except FAILURES as error:
            raise SessionsLost(f"Postgres does not answer: {why(error)}") from error
