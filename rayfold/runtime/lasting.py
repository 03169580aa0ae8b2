"""Background work that is restarted after an unexpected error."""

from __future__ import annotations

import asyncio
import logging
from asyncio import sleep
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

PAUSE = 1.0
LONGEST_PAUSE = 5.0
"""Seconds until what broke is begun again: twice as long each time that it breaks soon after."""


async def lasting(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Run `work` until it returns; when it breaks, log why, and begin it again.

    For what has to go on as long as its process does. Nobody awaits such a task, so one that ended
    would do so in silence, and what it looked after would be looked after no more. Errors that
    are expected are for `work` itself; `name` says in the log what it was.
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
            log.exception("work in the background broke, and begins again", extra={"work": name})
        await sleep(pause)
