"""The existing gateways and their releases: rows that expire by Postgres' clock."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from rayfold.runtime.postgres import FAILURES, LastingConnection

if TYPE_CHECKING:
    from rayfold.runtime.postgres import Connection

log = logging.getLogger(__name__)

RENEWAL = 2.0
"""Seconds between two heartbeats."""

LENGTH = 10.0
"""Seconds after the last heartbeat at which a gateway counts as gone."""

FORGOTTEN = 3600.0
"""Seconds after which its row is deleted if the gateway did not do so."""

_TABLE = """
CREATE TABLE IF NOT EXISTS rayfold_gateway (
    id text PRIMARY KEY, place text NOT NULL, domain text NOT NULL,
    seen timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_SEEN = (
    "INSERT INTO rayfold_gateway (id, place, domain) VALUES ($1, $2, $3)"
    " ON CONFLICT (id) DO UPDATE SET seen = clock_timestamp()"
)
_PRESENT = (
    "SELECT place, domain FROM rayfold_gateway"
    " WHERE seen > clock_timestamp() - make_interval(secs => $1) ORDER BY place"
)
_AHEAD = "UPDATE rayfold_gateway SET seen = clock_timestamp() WHERE seen > clock_timestamp()"
"""Rows from before the clock was set back: they expire counted from now."""
_OLD = "DELETE FROM rayfold_gateway WHERE seen < clock_timestamp() - make_interval(secs => $1)"


class Gateway(NamedTuple):
    """A gateway with a recent heartbeat; `domain` is its release's hash."""

    place: str
    domain: str


async def gateways_of(connection: Connection) -> list[Gateway]:
    """Return the existing gateways."""
    if await connection.fetchval("SELECT to_regclass('rayfold_gateway')") is None:
        return []
    await connection.execute(_AHEAD)
    return [Gateway(*row) for row in await connection.fetch(_PRESENT, LENGTH)]


class Presence:
    """A gateway's own row."""

    def __init__(self, dsn: str, place: str, domain: str) -> None:
        self._row = uuid4().hex, place, domain
        self._postgres = LastingConnection(dsn, timeout=LENGTH, command_timeout=LENGTH)

    async def enter(self) -> None:
        """Register, before the first request is accepted.

        Raises:
            FAILURES: Postgres does not answer.
        """
        connection = await self._postgres.get()
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x5261_7966)
            await connection.execute(_TABLE)
            await connection.execute(_OLD, FORGOTTEN)
        await connection.execute(_SEEN, *self._row)

    async def run(self) -> None:
        """Send heartbeats forever; while Postgres is away, nobody reads them either."""
        while True:
            await asyncio.sleep(RENEWAL)
            try:
                async with asyncio.timeout(LENGTH):
                    await (await self._postgres.get()).execute(_SEEN, *self._row)
            except FAILURES as error:
                self._postgres.close()
                log.info("the gateway is not announced", extra={"error": repr(error)})

    async def leave(self) -> None:
        """Unregister at once: the last request has its answer."""
        try:
            async with asyncio.timeout(RENEWAL):
                connection = await self._postgres.get()
                await connection.execute("DELETE FROM rayfold_gateway WHERE id = $1", self._row[0])
        except FAILURES as error:
            log.info(
                "the gateway's row could not be deleted: it expires", extra={"error": repr(error)}
            )
        finally:
            self._postgres.close()
