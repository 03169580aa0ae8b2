"""Runs blocking calls in a thread beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from rayfold.runtime.together import ended

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run what blocks; however often we are cancelled, wait for it first, so it can be undone.

    Whoever is cancelled does not get what it gives: `work` itself has to note what is to be undone.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    await ended([task])
    return task.result()
