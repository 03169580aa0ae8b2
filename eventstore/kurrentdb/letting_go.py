"""How a call of the client ends, without a cancellation that is lost on the way.

The client waits for a task of its own as a call ends, and takes a cancellation of ours that comes
just then for that task's (`AsyncReadResponse.stop`). Whoever asks again and again, as what looks
whether the store is there, would never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from kurrentdbclient.streams import AsyncReadResponse


async def let_go(stopping: Awaitable[None]) -> None:
    """Wait until the client has let go of a call; raise a cancellation that comes meanwhile."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        await stopping
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


@asynccontextmanager
async def let_go_of(records: AsyncReadResponse) -> AsyncIterator[Any]:
    """Have what the client has begun to read until the block ends."""
    await records.__aenter__()
    try:
        yield records
    finally:
        await let_go(records.__aexit__())
