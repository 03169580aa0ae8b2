"""Runs a process's own work to its end, whatever other tasks have been left running."""

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
"""Seconds for what still runs when the work is done, and is cancelled."""


def run_to_the_end(work: Coroutine[Any, Any, int]) -> int:
    """Return what the work gives; where something takes no notice of its cancellation, exit.

    An author's code may swallow it and go on: `asyncio.run` would wait for that for ever, so that
    a process that was told to stop, and has stopped all that it ran, would never be gone.

    Raises:
        BaseException: whatever the work raises; then too nothing is waited for without end.
    """
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        code = runner.run(work)
    except BaseException:
        if not _leaves_some(runner):
            runner.close()
        raise  # whoever called us says what it is; the loop that some hold on to is let be
    if _leaves_some(runner):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    runner.close()
    return code


def _leaves_some(runner: asyncio.Runner) -> bool:
    left = runner.run(_left())
    if left:
        log.warning("what does not end is left behind", extra={"tasks": left})
    return bool(left)


async def _left() -> list[str]:
    """Cancel whatever runs beside us, and return what has not ended soon after."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if not others:
        return []
    _, left = await asyncio.wait(others, timeout=PATIENCE)
    return [getattr(each.get_coro(), "__qualname__", repr(each)) for each in left]
