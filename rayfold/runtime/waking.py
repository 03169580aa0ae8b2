"""Sleeping until there is something to do, or for so many seconds."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def asleep(seconds: float, wake: asyncio.Event) -> None:
    """Return when `wake` is set, after `seconds` at the latest; it is clear then."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
    wake.clear()
