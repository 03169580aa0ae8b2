"""Event store and Postgres: embedded if none is given, and monitored in either case."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg

from deploy.errors import StartError
from deploy.stack import folder
from deploy.stack.child_process import ChildProcess
from deploy.stack.display import Display
from deploy.stack.own_disk import OwnDisk
from deploy.stack.postgres_process import PostgresProcess
from deploy.stack.probe import SILENCE, Probe
from deploy.stack.settings import Settings
from deploy.stack.starting import ANSWER_TIMEOUT, keep_going, why_no_answer
from deploy.stack.store_process import StoreProcess
from deploy.stack.whole_file import write_whole
from eventstore.errors import StoreError, does_not
from eventstore.kurrentdb.connection import without_password
from eventstore.kurrentdb.log import EventLog
from rayfold.runtime.postgres import FAILURES, Connection, LastingConnection, why

_WHOLE = ("UTF8", "SQL_ASCII")
"""Database encodings that can store all text; the second stores bytes unchanged."""

_READ_ONLY = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN 'it is a standby'"
    " WHEN current_setting('transaction_read_only')::bool"
    " THEN 'it is read-only (default_transaction_read_only)' END"
)

_HAS_ROOM = "SET LOCAL work_mem = 64; SELECT count(*) FROM generate_series(1, 10000)"
"""Writes 150 kB to a temporary file: no WAL, no table, no lock; works on a standby too."""

ROOM = 30.0
"""Seconds between two checks for free space while there is some: a server may log each file."""


async def start_eventstore(
    settings: Settings,
    prefixes: Sequence[str],
    data: Path,
    parts: AsyncExitStack,
    display: Display,
) -> tuple[str, Probe]:
    """Return the event store's URI; its probe reads streams with these `prefixes`.

    Raises:
        StartError: it does not answer.
    """
    process: StoreProcess | None = None
    disk: OwnDisk | None = None
    with display.part("event store"):
        uri = settings.eventstore
        if uri is None:
            process = StoreProcess(data / "eventstore")
            parts.push_async_callback(process.stop)
            uri = await process.start()
            disk = OwnDisk(data / "eventstore")
            write_whole(data / folder.EVENT_STORE, uri)
        log = EventLog(uri)
        parts.push_async_callback(log.close)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await log.connect()
        except (StoreError, TimeoutError) as error:
            raise StartError(
                f"the event store at {without_password(uri)} {does_not(error)}:"
                f" {why_no_answer(error)}: check --eventstore"
            ) from error

    async def ask() -> None:
        await log.end_position(prefixes)

    return uri, watched("eventstore", ask, process, parts, disk)


async def start_postgres(
    settings: Settings, data: Path, parts: AsyncExitStack, display: Display
) -> tuple[str, Probe]:
    """Return Postgres' DSN.

    Raises:
        StartError: it does not answer, or its database cannot store all text.
    """
    # It logs a traceback at every reconnection: the probe reports it once.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    process: PostgresProcess | None = None
    disk: OwnDisk | None = None
    with display.part("postgres"):
        dsn = settings.postgres
        if dsn is None:
            process = PostgresProcess(data / "postgres")
            parts.push_async_callback(process.stop)
            dsn = await process.start()
            disk = OwnDisk(data / "postgres")
        asking = _Asking(dsn)
        parts.callback(asking.close)
        try:
            await asking.ask(ANSWER_TIMEOUT)
            encoding = await asking.encoding()
        except (*FAILURES, ValueError) as error:
            raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error
        if encoding not in _WHOLE:
            raise StartError(
                f"the database has the encoding {encoding}, which cannot store every character:"
                " give --postgres one that was created with"
                " ENCODING 'UTF8' TEMPLATE template0"
            )
    return dsn, watched("postgres", asking.ask, process, parts, disk)


def watched(
    name: str,
    ask: Callable[[], Awaitable[str | None]],
    process: ChildProcess | None,
    parts: AsyncExitStack,
    disk: OwnDisk | None = None,
) -> Probe:
    """Check every second whether a server answers, until `parts` end; return the probe."""

    async def ask_both() -> str | None:
        wrong = disk.wrong() if disk is not None else None
        return await ask() or wrong

    probe = Probe(name, ask_both, process, disk.measured if disk is not None else None)
    keep_going(probe.watch, f"asking {name}", parts)
    return probe


class _Asking:
    """A connection for one check. A pool would wait for a suspended server."""

    def __init__(self, dsn: str) -> None:
        self._postgres = LastingConnection(dsn)
        self._room_until = float("-inf")

    async def ask(self, timeout: float = SILENCE) -> str | None:
        """Return why nothing can be written; raise if Postgres does not answer."""
        try:
            async with asyncio.timeout(timeout):
                connection = await self._postgres.get()
                if read_only := await connection.fetchval(_READ_ONLY):
                    self.close()  # a session keeps the default with which it began
                    return f"{read_only}: nothing can be written"
                return await self._without_room(connection)
        except BaseException:
            self.close()
            raise

    async def _without_room(self, connection: Connection) -> str | None:
        if (now := time.monotonic()) < self._room_until:
            return None
        try:
            await connection.execute(_HAS_ROOM)
        except asyncpg.DiskFullError:
            return "its disk is full"
        except asyncpg.ConfigurationLimitExceededError:
            pass  # the administrator does not allow such files
        self._room_until = now + ROOM
        return None

    async def encoding(self) -> str:
        """Return the encoding of the database."""
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return str(await (await self._postgres.get()).fetchval("SHOW server_encoding"))

    def close(self) -> None:
        """Close the connection at once."""
        self._postgres.close()
