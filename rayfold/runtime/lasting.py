"""Background work that continues after an unexpected error."""

from __future__ import annotations

import asyncio
import logging
from asyncio import sleep
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

PAUSE = 1.0
LONGEST_PAUSE = 5.0
"""The most seconds until failed work restarts; the pause doubles each time it soon fails again."""


async def lasting(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Run `work` until it returns; when it raises, log the error and start it again.

    For work that must go on as long as its process runs. No code awaits such a task, so it would
    end silently, and its work would no longer be done. `work` itself handles expected errors;
    `name` is what the log calls it.
    """
    clock = asyncio.get_running_loop().time
    pause = 0.0
    while True:
        began = clock()
        try:
            return await work()
        except Exception:
            soon = clock() - began < LONGEST_PAUSE
            pause = min(2 * pause, LONGEST_PAUSE) if soon and pause else PAUSE
            log.exception("work in the background failed, and starts again", extra={"work": name})
        await sleep(pause)
