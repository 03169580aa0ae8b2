"""An index in Postgres of what is open, so that a start reads that only, not all history.

It is a cache of the log: a fold of streams with a common name prefix, without the domain's code. It
has a row for each open stream, whose `due` is when something happens next, and the position of the
log up to which it is folded. If it is lost, or of another version, it is made again from the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from eventstore.errors import StoreUnavailable
from eventstore.folded_log import FoldedLog
from eventstore.port import Log
from eventstore.records import Batch, RawRecord
from rayfold.foreign_json import UNREADABLE
from rayfold.runtime.postgres import BY_INDEX, FAILURES, connected, why
from rayfold.runtime.postgres_text import restored, storable

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two transactions."""

IDLE_INTERVAL = 30.0
"""Seconds between two transactions without changes: a start has to read this much of the log."""

RETRY = 1.0
TIMEOUT = 30.0
"""Seconds until a retry; also the time limit of a statement."""

_VERSION = 1
"""The version of the rows' content."""

_TABLES = """
CREATE TABLE IF NOT EXISTS rayfold_open (
    kind text NOT NULL, key text NOT NULL, due timestamptz, body text NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE TABLE IF NOT EXISTS rayfold_open_until (
    kind text PRIMARY KEY, version int NOT NULL, position bigint NOT NULL
);
"""

"""An index on `due` from an earlier release; because of it, every update writes all indexes."""

_LOCK = 0x7261796F


class Open(Protocol):
    """What the index holds about one stream."""

    @property
    def is_open(self) -> bool:
        """Return whether anything can still happen to it."""
        ...

    @property
    def due(self) -> datetime | None:
        """Return when something is due to happen without other input; None if nothing is."""
        ...

    @classmethod
    def begins_with(cls, raw: RawRecord, *, is_open: bool) -> bool:
        """Return whether a record is the first of its stream, or the first after a deletion.

        `is_open`: whether the stream is known and open.
        """
        ...

    def fold(self, raw: RawRecord) -> None:
        """Apply a record of its stream."""
        ...


T = TypeVar("T", bound=Open)


class OpenIndex(Generic[T]):
    """The index of streams whose names begin with `prefix`; the rest of the name is the key."""

    def __init__(self, log: Log, dsn: str, kind: str, prefix: str, type_: type[T]) -> None:
        """Without a `dsn` there is no index: everything is read from the log each time."""
        self._log = log
        self._folded = FoldedLog(log, [prefix])
        self._dsn = dsn
        self._kind = kind
        self._prefix = prefix
        self._type = type_
        self._decode = msgspec.json.Decoder(type_).decode
        self.error = ""
        self._lost: int | None = None
        """The index's position when the log turned out to have been restored to an earlier
        moment.
        """
        self._broken = False
        """Whether a row cannot be read: it is of another release, or was changed by hand."""

    async def load(self) -> tuple[dict[str, T], int]:
        """Return what is open, by key, as of the log's end, and the position of that end.

        If Postgres does not answer, everything is read from the log.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        found: dict[str, T] = {}
        position = 0
        if self._dsn:
            try:
                found, position = await self._read()
                if await self._is_lost(position):
                    found, position = {}, 0
            except (*FAILURES, *UNREADABLE) as error:
                found, position = {}, 0
                self._broken = self._broken or isinstance(error, UNREADABLE)
                self.error = f"the index of open items cannot be read: {why(error)}"
                log.warning(
                    "open items are read from the log",
                    extra={"kind": self._kind, "error": str(error)},
                )
        async for raw in self._log.read_all([self._prefix], after=position or None):
            self._fold(found, raw)
            position = raw.position
        return {key: each for key, each in found.items() if each.is_open}, position

    async def keep(self) -> None:
        """Keep the index up to date with the log, forever."""
        while self._dsn:
            try:
                await self._keep_up()
            except (*FAILURES, *UNREADABLE, StoreUnavailable) as error:
                self._broken = self._broken or isinstance(error, UNREADABLE)
                self.error = f"the index of open items cannot be written: {why(error)}"
            await asyncio.sleep(RETRY)

    async def _keep_up(self) -> None:
        async with self._connected() as connection:
            position = await self._until(connection)
            if position is None or self._broken or await self._is_lost(position):
                await self._begin_again(connection)
                position = 0
            self.error = ""
            saved_at = time.monotonic()
            at_end = False
            subscription = self._log.subscribe([self._prefix], position or None, gather=INTERVAL)
            async with aclosing(subscription) as batches:
                async for batch in batches:
                    # The first position is saved at once: a log without relevant events may be
                    # long, and would be read in full at every start.
                    arrives, at_end = batch.caught_up and not at_end, at_end or batch.caught_up
                    soon = time.monotonic() - saved_at < IDLE_INTERVAL
                    idle = soon and not (batch.records or arrives)
                    if idle or batch.position <= position:
                        continue
                    if not await self._take_in(connection, position, batch):
                        return  # another process keeps it as well
                    position, saved_at = batch.position, time.monotonic()

    async def _take_in(self, connection: Any, position: int, batch: Batch) -> bool:
        """Fold records into their rows; return False if the index is at another position."""
        keys = list({self._key(raw) for raw in batch.records})
        stored = [storable(key) for key in keys]
        async with connection.transaction():
            moved = await connection.execute(
                "UPDATE rayfold_open_until SET position = $3 WHERE kind = $1 AND position = $2",
                self._kind,
                position,
                batch.position,
            )
            if moved != "UPDATE 1":
                return False
            if keys:
                rows = await connection.fetch(
                    "SELECT key, body FROM rayfold_open WHERE kind = $1 AND key = ANY($2)",
                    self._kind,
                    stored,
                )
                found = {restored(row["key"]): self._decode(row["body"]) for row in rows}
                for raw in batch.records:
                    self._fold(found, raw)
                await self._write(connection, {key: found.get(key) for key in keys})
        return True

    async def _write(self, connection: Any, found: dict[str, T | None]) -> None:
        gone = [key for key, each in found.items() if each is None or not each.is_open]
        open_ = [(key, each) for key, each in found.items() if each is not None and each.is_open]
        await connection.execute(
            "DELETE FROM rayfold_open WHERE kind = $1 AND key = ANY($2)",
            self._kind,
            [storable(key) for key in gone],
        )
        await connection.execute(
            "INSERT INTO rayfold_open (kind, key, due, body)"
            " SELECT $1, * FROM unnest($2::text[], $3::timestamptz[], $4::text[])"
            " ON CONFLICT (kind, key) DO UPDATE SET due = excluded.due, body = excluded.body",
            self._kind,
            [storable(key) for key, _ in open_],
            [each.due for _, each in open_],
            [msgspec.json.encode(each).decode() for _, each in open_],
        )

    async def _read(self) -> tuple[dict[str, T], int]:
        async with (
            self._connected() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            position = await self._until(connection)
            if position is None:
                return {}, 0
            rows = await connection.fetch(
                "SELECT key, body FROM rayfold_open WHERE kind = $1", self._kind
            )
            return {restored(row["key"]): self._decode(row["body"]) for row in rows}, position

    async def _is_lost(self, position: int) -> bool:
        """Return whether the log was restored to an earlier moment than the index's position."""
        if position == self._lost:  # by now the log may have reached that position again
            return True
        if not await self._folded.lacks({self._kind: position}):
            return False
        self._lost = position
        why = {"kind": self._kind, "position": position}
        log.warning("the log was restored: open items are read from it", extra=why)
        return True

    async def _until(self, connection: Any) -> int | None:
        position: int | None = await connection.fetchval(
            "SELECT position FROM rayfold_open_until WHERE kind = $1 AND version = $2",
            self._kind,
            _VERSION,
        )
        return position

    async def _begin_again(self, connection: Any) -> None:
        async with connection.transaction():
            await connection.execute("DELETE FROM rayfold_open WHERE kind = $1", self._kind)
            await connection.execute(
                "INSERT INTO rayfold_open_until VALUES ($1, $2, 0)"
                " ON CONFLICT (kind) DO UPDATE SET version = excluded.version, position = 0",
                self._kind,
                _VERSION,
            )
        self._lost, self._broken = None, False

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        async with connected(
            self._dsn, timeout=TIMEOUT, command_timeout=TIMEOUT, server_settings=BY_INDEX
        ) as connection:
            async with connection.transaction():
                await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
                await connection.execute(_TABLES)
            yield connection

    def _fold(self, found: dict[str, T], raw: RawRecord) -> None:
        key = self._key(raw)
        if self._type.begins_with(raw, is_open=key in found):
            found[key] = self._type()
        if (each := found.get(key)) is None:
            return  # it was no longer open: later records do not open it again
        each.fold(raw)
        if not each.is_open:
            del found[key]

    def _key(self, raw: RawRecord) -> str:
        return raw.stream[len(self._prefix) :]
