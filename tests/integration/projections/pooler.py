"""A pooler in transaction mode, played: each transaction gets the session that waited longest.

As PgBouncer does without `max_prepared_statements`: nothing of a session goes along with its
client, and a start with parameters that it does not know is refused, or they are forgotten.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit

_KNOWN = {"user", "database", "client_encoding", "application_name", "DateStyle", "TimeZone"}
_SSL_REQUEST, _CANCEL = 80877103, 80877102


def socket_of(dsn: str) -> tuple[str, str, str]:
    """Return the Unix socket, user and database of the tests' server."""
    parts = urlsplit(dsn)
    folder = parse_qs(parts.query)["host"][0]
    return f"{folder}/.s.PGSQL.5432", parts.username or "postgres", parts.path.strip("/")


class _Session:
    """A connection to the server, which clients share one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.greeting = b""


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return a message's kind, and all of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


async def _session(dsn: str) -> _Session:
    path, user, database = socket_of(dsn)
    session = _Session(*await asyncio.open_unix_connection(path))
    body = b"\0\3\0\0" + b"".join(
        each.encode() + b"\0" for each in ("user", user, "database", database, "")
    )
    session.writer.write(struct.pack("!I", len(body) + 4) + body)
    kind = b""
    while kind != b"Z":
        kind, raw = await message(session.reader)
        assert kind != b"E", raw
        if kind in b"RSZ":
            session.greeting += raw
    return session


class Pooler:
    """Its clients connect to `dsn`; `transactions` counts what each session did."""

    def __init__(self, server: str, sessions: int, ignores: bool) -> None:
        self._server = server
        self._number = sessions
        self._ignores = ignores
        self._idle: asyncio.Queue[_Session] = asyncio.Queue()
        self._greeting = b""
        self._listener: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.transactions = 0
        self.refused: list[str] = []
        self.dsn = ""

    async def start(self) -> None:
        """Open the sessions, then listen."""
        for _ in range(self._number):
            session = await _session(self._server)
            self._greeting = session.greeting
            self._idle.put_nowait(session)
        self._listener = await asyncio.start_server(self._client, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        _, user, database = socket_of(self._server)
        self.dsn = f"postgresql://{user}@127.0.0.1:{port}/{database}?sslmode=prefer"

    async def stop(self) -> None:
        """End all."""
        assert self._listener is not None
        self._listener.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        while not self._idle.empty():
            self._idle.get_nowait().writer.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            if await self._greet(reader, writer):
                await self._serve(reader, writer)
        writer.close()
        self._clients.discard(task)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            size, code = struct.unpack("!II", await reader.readexactly(8))
            body = await reader.readexactly(size - 8)
            if code == _CANCEL:
                return False
            if code != _SSL_REQUEST:
                break
            writer.write(b"N")
        names = body.split(b"\0")[0:-2:2]
        unknown = [name.decode() for name in names if name.decode() not in _KNOWN]
        if unknown and not self._ignores:
            self.refused += unknown
            said = f"unsupported startup parameter: {unknown[0]}"
            error = f"SFATAL\0C08P01\0M{said}\0\0".encode()
            writer.write(b"E" + struct.pack("!I", len(error) + 4) + error)
            await writer.drain()
            return False
        writer.write(self._greeting)
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering: asyncio.Task[None] | None = None
        session: _Session | None = None
        try:
            while True:
                kind, raw = await message(reader)
                if kind == b"X":
                    return
                if answering is None or answering.done():
                    session = await self._idle.get()
                    self.transactions += 1
                    answering = asyncio.create_task(self._answer(session, writer))
                assert session is not None
                session.writer.write(raw)
        finally:
            if answering is not None and not answering.done():  # it left in a transaction
                assert session is not None
                answering.cancel()
                session.writer.close()
                with suppress(OSError):
                    self._idle.put_nowait(await _session(self._server))

    async def _answer(self, session: _Session, writer: asyncio.StreamWriter) -> None:
        """Pass answers on until the session is in no transaction; then it is another's."""
        while True:
            kind, raw = await message(session.reader)
            writer.write(raw)
            if kind == b"Z" and raw[5:6] == b"I":
                self._idle.put_nowait(session)
                return


@asynccontextmanager
async def pooled(server: str, *, sessions: int = 3, ignores: bool = False) -> AsyncIterator[Pooler]:
    """A pooler in front of the server."""
    pooler = Pooler(server, sessions, ignores)
    await pooler.start()
    try:
        yield pooler
    finally:
        await pooler.stop()
