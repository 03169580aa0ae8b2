"""What stands between us and Postgres in production, played: an address that moves, and TLS."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.integration.projections.pooler import socket_of

_SSL_REQUEST = 80877103
_STATEMENTS = (b"Q", b"P", b"B")
"""How a client begins a statement: Query, Parse, Bind. No answer of a server begins so."""


class Relay:
    """Passes bytes on to the tests' server, which speaks no TLS itself.

    `tls` is spoken with whoever asks for it; `is_open` says whether anybody is let in.
    """

    def __init__(self, server: str, tls: ssl.SSLContext | None) -> None:
        self._path, self._user, self._database = socket_of(server)
        self._listener: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self._losing: set[asyncio.Task[None]] = set()
        self.tls = tls
        self.is_open = True
        self.withheld = asyncio.Event()
        """Set when something waits to be passed on, after `freeze`."""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._executing = asyncio.Event()
        self._executing.set()
        self.encrypted = 0
        self.dsn = ""

    async def start(self) -> None:
        """Listen."""
        self._listener = await asyncio.start_server(self._client, "127.0.0.1", 0)
        port = self._listener.sockets[0].getsockname()[1]
        mode = "disable" if self.tls is None else "verify-full"
        self.dsn = f"postgresql://{self._user}@localhost:{port}/{self._database}?sslmode={mode}"

    def cut(self) -> None:
        """Break all connections, as a server that dies does."""
        for task in self._passing:
            task.cancel()

    def freeze(self) -> None:
        """Pass nothing on any more, as a server that is stopped: connections stay, and are made."""
        self._flowing.clear()

    def stall(self) -> None:
        """Withhold statements; connections are made, as by a pooler whose server stands still."""
        self._executing.clear()

    def thaw(self) -> None:
        """Pass on what was withheld, and all that comes."""
        self._flowing.set()
        self._executing.set()

    def lose(self) -> None:
        """Keep the connections of now, and pass nothing on in them, now or later; as a proxy does
        whose server has vanished.
        """
        self._losing |= self._passing

    async def stop(self) -> None:
        """End all."""
        assert self._listener is not None
        self._listener.close()
        self.cut()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._flowing.wait()
                if self.is_open:
                    await self._pass(reader, writer)
        finally:
            self._passing.discard(task)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(8)
        if struct.unpack("!II", first)[1] == _SSL_REQUEST and self.tls is not None:
            writer.write(b"S")
            await writer.start_tls(self.tls)
            self.encrypted += 1
            first = b""
        there, server = await asyncio.open_unix_connection(self._path)
        server.write(first)
        try:
            async with asyncio.TaskGroup() as group:
                task = asyncio.current_task()
                group.create_task(self._copy(reader, server, task))
                group.create_task(self._copy(there, writer, task))
        except* OSError:
            pass
        finally:
            server.transport.abort()

    async def _copy(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passing: asyncio.Task[None] | None,
    ) -> None:
        while data := await reader.read(1 << 16):
            if passing in self._losing:
                continue
            if not self._flowing.is_set():
                self.withheld.set()
                await self._flowing.wait()
            if data[:1] in _STATEMENTS:
                await self._executing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


@asynccontextmanager
async def relayed(server: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Relay]:
    """A relay in front of the server."""
    relay = Relay(server, tls)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()
