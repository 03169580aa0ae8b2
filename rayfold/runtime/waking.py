"""Sleeping until other code reports work, or until some seconds have passed."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def asleep(seconds: float, wake: asyncio.Event) -> None:
    """Return when `wake` is set, after `seconds` at the latest; `wake` is cleared."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()
    wake.clear()
