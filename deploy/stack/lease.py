"""Ownership of a stack: one process at a time, by a lease in Postgres with an epoch.

It is not a session lock, which a pooler in transaction mode does not support. Times are those of
Postgres.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from deploy.errors import StartError
from deploy.stack.identity import LAYOUT
from deploy.stack.whole_file import once_written
from rayfold.runtime.postgres import FAILURES, LastingConnection

log = logging.getLogger(__name__)

LENGTH = 10.0
"""Seconds after its last renewal at which another process may take the lease."""

RENEWAL = 2.0
"""Seconds between two renewals."""

_LOOK = 0.5
"""Seconds between two checks of another process's lease."""

_TAKE = (
    # `rayfold down` may find a table of an older Rayfold, without that column.
    "WITH wanted AS (SELECT hash FROM rayfold_release AS release"
    " WHERE coalesce(to_jsonb(release) ->> 'refused', '') = ''), taken AS ("
    "UPDATE rayfold_stack SET owner = $1, place = $2, domain = $3, layout = $4, epoch = epoch + 1,"
    " until = clock_timestamp() + make_interval(secs => $5)"
    # An owner with the wanted release need not wait for one with another; no other may take it.
    " WHERE (owner = $1 OR until < clock_timestamp()"
    # A refused release is not wanted: what ran before keeps its owner.
    " OR NOT $6 AND domain <> $3 AND EXISTS (SELECT FROM wanted WHERE hash = $3))"
    " AND ($6 OR NOT EXISTS (SELECT FROM wanted WHERE hash <> $3)) RETURNING epoch),"
    # Together with the lease: a process that does not get it changes nothing for others.
    " forgotten AS (DELETE FROM rayfold_release WHERE $6 AND EXISTS (SELECT FROM taken))"
    " SELECT epoch FROM taken"
)
_PLACE = (
    # A lease that ends later is from before the clock was set back: it expires unless it is
    # renewed.
    "WITH ahead AS (UPDATE rayfold_stack SET until = clock_timestamp() + make_interval(secs => $1)"
    " WHERE until > clock_timestamp() + make_interval(secs => $1))"
    " SELECT place FROM rayfold_stack"
)
_RENEW = (
    "UPDATE rayfold_stack SET until = clock_timestamp() + make_interval(secs => $2),"
    " epoch = $1, owner = $3, place = $4"
    # A promoted replica of Postgres may have missed that it was taken.
    " WHERE epoch < $1 OR (epoch = $1 AND owner = $3)"
)


class OwnedByAnother(StartError):
    """Another process owns the stack."""


class Lease:
    """The right to start, move and end a stack's parts."""

    def __init__(self, dsn: str, owner: str, place: str, *, length: float = LENGTH) -> None:
        """Take over a lease of `owner` at once; `place` shows people where the owner is."""
        self._owner = owner
        self._place = place
        self._length = length
        self._postgres = LastingConnection(dsn, timeout=length)
        self.epoch = 0

    async def stand_by(self, domain: str) -> None:
        """Wait for the lease while another process has it; then record the domain that runs."""
        said = False
        while True:
            try:
                async with asyncio.timeout(self._length):
                    place = await self._take(domain)
            except FAILURES as error:
                self._postgres.close()
                log.info("the lease cannot be read", extra={"error": repr(error)})
                place = None
            if self.epoch:
                return
            if place is not None and not said:
                said = True
                log.warning("standing by: another one owns the stack", extra={"owner": place})
            await asyncio.sleep(_LOOK)

    async def take(self, domain: str, *, alone: bool = False) -> None:
        """Wait for an expired lease and take it; record the domain that runs from now on.

        `alone`: as `rayfold up` does, regardless of the wanted release, which is removed.

        Raises:
            OwnedByAnother: its owner is alive.
            FAILURES: Postgres does not answer.
        """
        seen = None
        while True:
            if await self._take(domain, alone=alone) is None:
                return
            connection = await self._postgres.get()
            row = await connection.fetchrow("SELECT name, place, epoch, until FROM rayfold_stack")
            assert row is not None
            now = row["epoch"], row["until"]
            if seen not in (None, now):
                raise OwnedByAnother(
                    f"the stack {row['name']!r} is run by {row['place']}: stop that one,"
                    " or give --stack, --eventstore and --postgres of another"
                )
            if seen is None:
                log.warning("waiting for the lease of another owner", extra={"at": row["place"]})
            seen = now
            await asyncio.sleep(_LOOK)

    async def hold(self, lost: Callable[[], None]) -> None:
        """Renew the lease forever; call `lost` and return once another process has taken it.

        While Postgres does not answer, no process can take it.
        """
        while True:
            await asyncio.sleep(RENEWAL)
            try:
                async with asyncio.timeout(self._length):
                    renewed = await self._renew(self._length)
            except FAILURES as error:
                self._postgres.close()
                log.info("the lease is not renewed", extra={"error": repr(error)})
                continue
            if not renewed:
                log.error("another owner has taken over the stack", extra={"epoch": self.epoch})
                lost()
                return

    async def release(self) -> None:
        """Release the lease, so that the next owner can take it at once."""
        if not self.epoch:  # it never had the lease
            self._postgres.close()
            return
        try:
            async with asyncio.timeout(RENEWAL):
                await self._renew(0.0)
        except FAILURES as error:
            log.info("the lease could not be given up: it expires", extra={"error": repr(error)})
        finally:
            self._postgres.close()

    async def _take(self, domain: str, *, alone: bool = False) -> str | None:
        """Take the lease if it is free; otherwise return the place of its owner."""
        connection = await self._postgres.get()
        args = self._owner, self._place, domain, LAYOUT, self._length, alone
        epoch = await connection.fetchval(_TAKE, *args)
        if epoch is not None:
            self.epoch = epoch
            return None
        return str(await connection.fetchval(_PLACE, self._length))

    async def _renew(self, length: float) -> bool:
        connection = await self._postgres.get()
        args = self.epoch, length, self._owner, self._place
        if await connection.execute(_RENEW, *args) != "UPDATE 0":
            return True
        # Without the row, the database is empty: nobody has the lease.
        return not await connection.fetchval("SELECT count(*) FROM rayfold_stack")


def owner_of(data: Path) -> str:
    """Return the owner's name for a data folder: the same after a crash."""
    return once_written(data / "owner", lambda: uuid4().hex)
