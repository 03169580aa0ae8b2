"""Serving the gateway over HTTP, in the event loop that is running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

GRACE = 5
"""Seconds that requests in flight have to end when the server stops."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the business of whoever runs the whole stack."""
        yield


async def serve(
    app: Any, host: str, port: int, *, stop: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    """Serves until `stop` is set; requests in flight are finished.

    Raises:
        OSError: the address cannot be bound.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=2048,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        while not server.started and not serving.done():
            await asyncio.wait([serving], timeout=0.01)
        if server.started:
            on_ready()
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await serving
