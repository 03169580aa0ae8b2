"""A gateway on a socket of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from api.http import connections
from api.http.limits import Limits
from api.http.server import serve
from tests.unit.api.conftest import Gateway

PATIENCE = 10.0

NO_MORE = Limits(linger_timeout=0.1)
"""For clients that send nothing more once they are refused: the server need not wait for it."""

Result = TypeVar("Result")


async def soon(what: Awaitable[Result]) -> Result:
    """Return what it gives, within `PATIENCE` seconds."""
    async with asyncio.timeout(PATIENCE):
        return await what


@asynccontextmanager
async def serving(
    gateway: Gateway, port: int, limits: Limits | None = None
) -> AsyncIterator[asyncio.Event]:
    """Serve within the block; the event stops it earlier. Connections are looked at often."""
    stop, ready = asyncio.Event(), asyncio.Event()
    listening = socket.create_server(("127.0.0.1", port))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connections, "SWEEP", 0.05)
        task = asyncio.create_task(
            serve(gateway.app, listening, stop=stop, on_ready=ready.set, limits=limits)
        )
        await soon(ready.wait())
        try:
            yield stop
        finally:
            stop.set()
            await soon(task)
