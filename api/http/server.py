"""Serving the gateway over HTTP, in the event loop that is running."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

GRACE = 5
"""Seconds that requests in flight have to end when the server stops."""

BACKLOG = 2048


class _OneWrite:
    """A transport that sends what is written in one turn of the loop by one system call.

    Uvicorn writes a response's head and its body apart. Each was a packet of its own, for
    which the client was woken: a tenth of what a small response costs here.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._written: list[bytes] = []
        self._call_soon = asyncio.get_running_loop().call_soon

    def write(self, data: bytes) -> None:
        """See `asyncio.Transport`."""
        if not self._written:
            self._call_soon(self._send)
        self._written.append(data)

    def close(self) -> None:
        """See `asyncio.Transport`."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        data, self._written = b"".join(self._written), []
        if data and not self._transport.is_closing():  # who went away meanwhile gets nothing
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin as uvicorn does, on a transport that joins small writes."""
        super().connection_made(_OneWrite(transport))  # type: ignore[arg-type]


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs the whole stack."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, and tell when it listens."""
        await super().startup(sockets)
        self._on_ready()


async def serve(
    app: Any, host: str, port: int, *, stop: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    """Serve until `stop` is set, or until it is cancelled; requests in flight are finished.

    `port` 0 takes a free one; `on_ready` is called once connections are accepted.

    Raises:
        OSError: the address cannot be bound.
    """
    # Bound here: uvicorn leaves the process when it cannot bind.
    listening = _bound(host, port)
    config = uvicorn.Config(
        app,
        loop="none",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the client's address
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config, on_ready)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        closing = getattr(app.state, "closing", None)
        if closing is not None:
            closing.set()  # streams would go on for as long as they are let
        server.should_exit = True
        await serving


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
