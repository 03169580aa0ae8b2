"""Serves the gateway over HTTP, in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import uvicorn

from api.http.connections import Connections
from api.http.limits import Limits
from api.http.protocol import GatewayProtocol
from rayfold.runtime.lasting import lasting

GRACE = 5
"""Seconds that pending requests have to end when the server stops."""

BACKLOG = 2048


class Application(Protocol):
    """An ASGI application with streams that end when `closing` is set."""

    closing: asyncio.Event

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        ...


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process that runs the whole stack."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then call `on_ready`."""
        await super().startup(sockets)
        self._on_ready()

    def stop_accepting(self) -> None:
        """Leave new connections to the other processes that have the socket."""
        for server in getattr(self, "servers", ()):
            server.close()


async def serve(
    app: Application,
    listening: socket.socket,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[], None],
    limits: Limits | None = None,
    drain: float = 0.0,
) -> None:
    """Serve until `stop` is set or the task is cancelled; pending requests are finished.

    `listening` is bound already; other processes may listen on it too. `on_ready` is called once
    connections are accepted. `limits` default to those of this process. For `drain` seconds after
    `stop`, clients may still send requests on their open connections, and each answer says that it
    is the last one on its connection.

    Raises:
        OSError: it cannot listen.
    """
    listening.listen(BACKLOG)  # here, as uvloop would not report that another process listens there
    connections = Connections(limits or Limits.of_process())
    config = uvicorn.Config(
        app,
        loop="none",
        http=partial(GatewayProtocol, connections),  # type: ignore[arg-type]
        timeout_keep_alive=int(connections.limits.idle_timeout) + 1,  # ours comes first
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
    watching = asyncio.create_task(lasting(connections.watch, "bounds of connections"))
    try:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        if drain and not serving.done():
            app.closing.set()
            server.stop_accepting()
            await connections.drained(drain)
    finally:
        stopping.cancel()
        app.closing.set()  # otherwise streams would not end
        connections.end_idle()
        server.should_exit = True
        try:
            await serving
        finally:
            watching.cancel()
