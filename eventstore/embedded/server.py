"""The embedded server: a store, its services, and a socket."""

import asyncio
import errno
import ssl
from pathlib import Path
from typing import Any, Protocol

from eventstore.embedded.http2.server import GrpcServer
from eventstore.embedded.http2.tls import PASSWORD, USER
from eventstore.embedded.persistent.subsystem import Groups
from eventstore.embedded.rpc.node import NodeHandlers
from eventstore.embedded.rpc.services import build_methods
from eventstore.embedded.storage.store import Store
from eventstore.embedded.storage.system_projections import SystemProjections


class _Part(Protocol):
    async def stop(self) -> None: ...


class AddressError(Exception):
    """The server cannot listen at the address. Give another host or port, as the message says."""


class EmbeddedServer:
    """A single node that speaks the EventStoreDB gRPC protocol, over TLS if told how.

    ``port`` 0 takes a free one; ``private`` refuses other users of this machine except root. Raises
    ``FolderInUseError`` if another server has the folder, ``AddressError`` if the port is taken.
    """

    def __init__(
        self,
        data: Path,
        host: str = "127.0.0.1",
        port: int = 2113,
        *,
        system_projections: bool = False,
        tls: ssl.SSLContext | None = None,
        private: bool = False,
    ) -> None:
        self._data = data
        self._host = host
        self._asked_port = port
        self._system_projections = system_projections
        self._tls = tls
        self._private = private
        self._parts: tuple[_Part, ...] = ()
        self._stopped = asyncio.Event()
        self._failure: asyncio.Future[str] | None = None
        self.port = 0

    @property
    def uri(self) -> str:
        """The connection string for clients."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        if self._tls is not None:
            return f"kdb://{USER}:{PASSWORD}@{host}:{self.port}?Tls=true"
        return f"kdb://{host}:{self.port}?Tls=false"

    async def start(self) -> None:
        """Open the folder and serve."""
        store = Store(self._data)
        groups = Groups(store)
        projections = SystemProjections(store)
        try:
            await store.start()
            groups.start()
            if self._system_projections:
                projections.start()
            node = NodeHandlers(self._host)
            methods = build_methods(store, groups, node)
            transport = GrpcServer(methods, self._tls, private=self._private)
            self.port = await self._listen(transport)
            node.announce(self.port, [*methods.unary, *methods.streaming])
        except BaseException:
            await projections.stop()
            await groups.stop()
            await store.stop()
            raise
        self._parts = (transport, projections, groups, store)
        self._failure = store.failure

    async def _listen(self, transport: GrpcServer) -> int:
        try:
            return await transport.start(self._host, self._asked_port)
        except OSError as error:
            advice = f"{self._host} cannot be listened on: {error.strerror}: give another --host"
            if error.errno == errno.EADDRINUSE:
                advice = f"port {self._asked_port} is taken: give another --port"
            raise AddressError(advice) from error

    async def wait(self) -> str | None:
        """Wait until ``stop`` is called, or return why nothing can be written any more.

        Then the caller must end the process: a new one reads what is on the disk.
        """
        stopped = asyncio.create_task(self._stopped.wait())
        waiting: set[asyncio.Future[Any]] = {stopped}
        if self._failure is not None:
            waiting.add(self._failure)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        failed = self._failure is not None and self._failure.done()
        return self._failure.result() if failed and self._failure is not None else None

    async def stop(self) -> None:
        """Answer pending writes, end all calls, close the store. Safe to call twice."""
        parts, self._parts = self._parts, ()
        # From the outside in: each writer is stopped before the store to which it writes.
        for part in parts:
            await part.stop()
        self._stopped.set()
