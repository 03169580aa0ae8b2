"""Runs a process's main coroutine; tasks that do not end cannot keep the process alive."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that remaining tasks have to end, once they are cancelled."""


def run_to_the_end(work: Coroutine[Any, Any, int]) -> int:
    """Return the result of the work; if a task ignores its cancellation, exit the process.

    An author's code may swallow its cancellation and go on. `asyncio.run` would wait for it for
    ever, so a process that was told to stop and has stopped all of its parts would never end.

    Raises:
        BaseException: whatever the work raises; then too the wait for other tasks is bounded.
    """
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        code = runner.run(work)
    except BaseException:
        if not _leaves_some(runner):
            runner.close()
        raise  # for the caller to report; the loop is not closed, because tasks still use it
    if _leaves_some(runner):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    runner.close()
    return code


def _leaves_some(runner: asyncio.Runner) -> bool:
    left = runner.run(_left())
    if left:
        log.warning(
            "tasks did not end when they were cancelled; the process ends without them",
            extra={"tasks": left},
        )
    return bool(left)


async def _left() -> list[str]:
    """Cancel all other tasks, and return those that have not ended within `PATIENCE`."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if not others:
        return []
    _, left = await asyncio.wait(others, timeout=PATIENCE)
    return [getattr(each.get_coro(), "__qualname__", repr(each)) for each in left]
