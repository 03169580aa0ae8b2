"""Blocking work in a thread beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from rayfold.runtime.together import ended

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run blocking work; even if cancelled, wait until it has ended, so that it can be undone.

    A cancelled caller does not get the result: `work` itself must note what has to be undone.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    await ended([task])
    return task.result()
