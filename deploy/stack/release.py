"""The release that a stack is to run: set by the last `rayfold upgrade`, in Postgres.

Without one, a stack runs its owner's release, as on a laptop. With one, no other may own it: a
controller of another release stands by, and a gateway of another one is replaced by a successor.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from rayfold.runtime.postgres import FAILURES, LastingConnection

if TYPE_CHECKING:
    from rayfold.runtime.postgres import Connection

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between two checks of the wanted release."""

TIMEOUT = 5.0
"""Seconds for Postgres to answer, before another connection is tried."""

TABLE = """
CREATE TABLE IF NOT EXISTS rayfold_release (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    number bigint NOT NULL,
    domain text NOT NULL,
    hash text NOT NULL,
    runtime_env jsonb NOT NULL,
    wanted_at timestamptz NOT NULL DEFAULT now()
);
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute
                   WHERE attrelid = 'rayfold_release'::regclass AND attname = 'refused') THEN
        ALTER TABLE rayfold_release ADD COLUMN accept_parked boolean NOT NULL DEFAULT false,
            ADD COLUMN refused text NOT NULL DEFAULT '';
    END IF;
END $$
"""
_WANT = (
    "INSERT INTO rayfold_release (number, domain, hash, runtime_env, accept_parked)"
    " VALUES (1, $1, $2, $3, $4)"
    " ON CONFLICT (singleton) DO UPDATE SET number = rayfold_release.number + 1,"
    " domain = excluded.domain, hash = excluded.hash, runtime_env = excluded.runtime_env,"
    " accept_parked = excluded.accept_parked, refused = '',"
    " wanted_at = now() RETURNING number"
)


class Release(NamedTuple):
    """`domain` is a package, `hash` its hash by `rayfold.runtime.identity.domain_hash`."""

    number: int
    domain: str
    hash: str
    runtime_env: dict[str, Any]
    accept_parked: bool = False
    """Whether its views replace the live ones even if they have parked keys which those serve."""
    refused: str = ""
    """Why its controller has given up: then it is not started, and the previous release goes on."""

    def lets_run(self, domain_hash: str) -> bool:
        """Return whether this code may run: it is wanted, or another release was refused."""
        return (self.hash == domain_hash) != bool(self.refused)


async def want(
    connection: Connection,
    domain: str,
    domain_hash: str,
    runtime_env: dict[str, Any],
    *,
    accept_parked: bool = False,
) -> Release:
    """Record the release to run from now on; processes that watch for it do the rest."""
    async with connection.transaction():
        await connection.execute(TABLE)
        number = await connection.fetchval(
            _WANT, domain, domain_hash, json.dumps(runtime_env), accept_parked
        )
    return Release(number, domain, domain_hash, runtime_env, accept_parked)


async def refuse(connection: Connection, release: Release, why: str) -> None:
    """Record that a release is refused, unless another is wanted by now, or it was wanted again."""
    statement = "UPDATE rayfold_release SET refused = $2 WHERE number = $1"
    await connection.execute(statement, release.number, why)


async def wanted_release(connection: Connection) -> Release | None:
    """Return the wanted release; None if none was ever set."""
    if await connection.fetchval("SELECT to_regclass('rayfold_release')") is None:
        return None
    row = await connection.fetchrow("SELECT * FROM rayfold_release")
    if row is None:
        return None
    return Release(
        row["number"],
        row["domain"],
        row["hash"],
        json.loads(row["runtime_env"]),
        row.get("accept_parked", False),  # missing in the table of an older Rayfold
        row.get("refused", ""),
    )


def read_part(document: dict[str, Any], domain_hash: str) -> dict[str, Any]:
    """Return the read side's part of a routing document for this release.

    During an upgrade there are two; a release that is no longer there gets the new one's.
    """
    previous: dict[str, Any] = document.get("previous") or {}
    part: dict[str, Any] = previous.get(domain_hash) or document["read"]
    return part


def is_known(document: dict[str, Any], domain_hash: str) -> bool:
    """Return whether a routing document has a read part for this release."""
    return document.get("domain") == domain_hash or domain_hash in (document.get("previous") or {})


class ReleaseWatch:
    """Watches whether another release is wanted."""

    def __init__(self, dsn: str, own: str, differs: Callable[[Release], None]) -> None:
        """`differs` is called repeatedly with a wanted release that is not `own`.

        If `own` was refused, it is called with that: the process that made room for it must be
        told.
        """
        self._own = own
        self._differs = differs
        self._postgres = LastingConnection(dsn, timeout=TIMEOUT, command_timeout=TIMEOUT)

    async def run(self) -> None:
        """Watch forever; while Postgres is away, nothing is wanted."""
        try:
            while True:
                try:
                    async with asyncio.timeout(TIMEOUT):
                        release = await wanted_release(await self._postgres.get())
                except FAILURES as error:
                    self._postgres.close()
                    log.info("the wanted release cannot be read", extra={"error": repr(error)})
                else:
                    if release is not None and not release.lets_run(self._own):
                        self._differs(release)
                await asyncio.sleep(LOOK)
        finally:
            self._postgres.close()
