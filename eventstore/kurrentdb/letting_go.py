"""Ends a call of the client without losing a cancellation.

As a call ends, the client waits for a task of its own, and takes a cancellation of ours at that
moment for that task's (`AsyncReadResponse.stop`). A loop of calls, such as the check whether the
store is up, would then never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from kurrentdbclient.streams import AsyncReadResponse


async def let_go(stopping: Awaitable[None]) -> None:
    """Wait until the client has ended a call; raise a cancellation that comes meanwhile."""
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        await stopping
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


@asynccontextmanager
async def let_go_of(records: AsyncReadResponse) -> AsyncIterator[Any]:
    """Yield the client's iterator, and end its read when the block ends."""
    await records.__aenter__()
    try:
        yield records
    finally:
        await let_go(records.__aexit__())
