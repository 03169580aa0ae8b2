"""Several things at once, of which all are done or none goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


async def together(*begun: Awaitable[Any]) -> list[Any]:
    """Return what each gives; when one fails or we are cancelled, the others have ended before.

    Each is cancelled once, so that it can undo in peace what it has begun: `asyncio.gather` passes
    a cancellation on and returns with the first that has ended, and who cancels the rest then
    interrupts that.
    """
    tasks = [asyncio.ensure_future(each) for each in begun]
    try:
        if tasks:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task in ended:
                    task.result()  # raises, of one that failed
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
