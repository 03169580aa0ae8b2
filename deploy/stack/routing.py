"""The routing table: one row in Postgres, written by the stack's owner, followed by gateways.

It is a row and not an actor, because it must outlive the owner and Ray's head. Its document is
plain JSON, readable by everyone who may read the database, who has full control of the stack
anyway.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rayfold.runtime.postgres import FAILURES, Connection, LastingConnection
from rayfold.runtime.waking import asleep

log = logging.getLogger(__name__)

CHANNEL = "rayfold_routing"

POLL = 1.0
"""Seconds between two checks of a follower: a pooler in transaction mode forwards no
notifications.
"""

LOOK = 0.2
"""Seconds between two comparisons by the owner."""

CHECK = 5.0
"""Seconds between two checks by the owner that the row is still as it wrote it."""

TIMEOUT = 5.0
"""Seconds for Postgres to answer, before another connection is tried."""

TABLE = """
CREATE TABLE IF NOT EXISTS rayfold_routing (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL,
    version bigint NOT NULL,
    document jsonb NOT NULL
)
"""
_PUBLISH = (
    "INSERT INTO rayfold_routing (epoch, version, document)"
    " SELECT $1::bigint, $3::bigint + 1, $2::jsonb FROM rayfold_stack WHERE epoch = $1"
    " ON CONFLICT (singleton) DO UPDATE SET epoch = excluded.epoch,"
    # A promoted replica of Postgres may have missed versions that gateways follow.
    " version = greatest(rayfold_routing.version, $3) + 1, document = excluded.document"
    " WHERE rayfold_routing.epoch <= excluded.epoch RETURNING version"
)
_WRITTEN = (
    "SELECT version FROM rayfold_stack LEFT JOIN rayfold_routing USING (epoch) WHERE epoch = $1"
)
_READ = "SELECT epoch, version, document FROM rayfold_routing"


@dataclass(frozen=True)
class Routing:
    """One version of the table; `epoch` is its owner's."""

    epoch: int = 0
    version: int = 0
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def term(self) -> tuple[int, int]:
        """The age of this version: a newer one has a greater term."""
        return self.epoch, self.version


async def read(connection: Connection) -> Routing | None:
    """Return the table, None if no owner has ever published one."""
    if await connection.fetchval("SELECT to_regclass('rayfold_routing')") is None:
        return None
    row = await connection.fetchrow(_READ)
    if row is None:
        return None
    return Routing(row["epoch"], row["version"], json.loads(row["document"]))


async def publish(
    connection: Connection, epoch: int, document: dict[str, Any], after: int = 0
) -> int | None:
    """Write the table and notify followers; return its version, None if another process owns it.

    The version is greater than `after`, the last known one.
    """
    async with connection.transaction():
        version = await connection.fetchval(_PUBLISH, epoch, json.dumps(document), after)
        if version is not None:
            await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(version))
    return None if version is None else int(version)


class RoutingPublisher:
    """Keeps the row up to date with its owner."""

    def __init__(self, dsn: str, epoch: int, compose: Callable[[], dict[str, Any]]) -> None:
        """`compose` returns the current document; it is called often."""
        self._epoch = epoch
        self._compose = compose
        self._postgres = LastingConnection(dsn, timeout=TIMEOUT, command_timeout=TIMEOUT)
        self._published: dict[str, Any] | None = None
        self._version = 0
        self._checked = time.monotonic()
        self._wake = asyncio.Event()
        self._publishing = asyncio.Lock()

    async def publish(self) -> bool:
        """Publish changes; return False if another owner has taken over.

        Raises:
            FAILURES: Postgres does not answer; the row may have been written.
        """
        async with self._publishing:
            document = self._compose()
            is_known = document == self._published
            if is_known and time.monotonic() - self._checked < CHECK:
                return True
            self._checked = time.monotonic()
            try:
                async with asyncio.timeout(TIMEOUT):
                    connection = await self._postgres.get()
                    if is_known and await self._is_written(connection):
                        return True
                    version = await publish(connection, self._epoch, document, self._version)
            except BaseException:
                self._postgres.close()
                raise
            if version is None:
                return False
            self._published, self._version = json.loads(json.dumps(document)), version
            return True

    async def _is_written(self, connection: Connection) -> bool:
        """Return whether the row is as we wrote it: a promoted replica may have missed that.

        This returns True for a row of another stack, or one that the replica does not have yet.
        """
        row = await connection.fetchrow(_WRITTEN, self._epoch)
        return row is None or row["version"] == self._version

    def changed(self) -> None:
        """Compare at once."""
        self._wake.set()

    async def run(self) -> None:
        """Publish each change; return once another owner has taken over."""
        try:
            while True:
                try:
                    if not await self.publish():
                        log.warning("another owner publishes", extra={"epoch": self._epoch})
                        return
                except FAILURES as error:
                    # Gateways go on with the table they have; other users of Postgres report this
                    # too.
                    log.info("the routing table is not published", extra={"error": repr(error)})
                await asleep(LOOK, self._wake)
        finally:
            self._postgres.close()


class RoutingFollower:
    """Calls `follow` with each newer table; while Postgres is away, the last one applies."""

    def __init__(self, dsn: str, routing: Routing, follow: Callable[[Routing], None]) -> None:
        """`routing` is the table that is followed already."""
        self.routing = routing
        self._follow = follow
        self._postgres = LastingConnection(
            dsn, self._listen, timeout=TIMEOUT, command_timeout=TIMEOUT
        )
        self._wake = asyncio.Event()
        self.error: str | None = None
        """Why Postgres did not answer the last query."""

    def look(self) -> None:
        """Check at once: a newer table is known to exist."""
        self._wake.set()

    async def run(self) -> None:
        """Follow forever."""
        try:
            while True:
                try:
                    async with asyncio.timeout(TIMEOUT):
                        await self._fetch()
                    self.error = None
                except FAILURES as error:
                    self.error = repr(error)
                    self._postgres.close()
                await asleep(POLL, self._wake)
        finally:
            self._postgres.close()

    async def _fetch(self) -> None:
        connection = await self._postgres.get()
        term = await connection.fetchrow("SELECT epoch, version FROM rayfold_routing")
        if term is None or (term["epoch"], term["version"]) <= self.routing.term:
            return
        routing = await read(connection)
        if routing is not None and routing.term > self.routing.term:
            self.routing = routing
            self._follow(routing)

    async def _listen(self, connection: Connection) -> None:
        if not connection.pooled:
            await connection.add_listener(CHANNEL, lambda *_: self._wake.set())
