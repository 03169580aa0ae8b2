"""Concurrent awaits: all or none, each to its end, or all cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any


async def together(*begun: Awaitable[Any]) -> list[Any]:
    """Return all results; if one fails or we are cancelled, first cancel and await the others.

    Each is cancelled only once, so that it can undo what it has begun. With `asyncio.gather` the
    others would go on after one has failed, and each would be cancelled as often as we are.
    """
    tasks = [asyncio.ensure_future(each) for each in begun]
    try:
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return [task.result() for task in tasks]
    finally:
        await cancel(*tasks)


async def all_done(*begun: Awaitable[Any]) -> None:
    """Wait until each has ended, even if we are cancelled; then raise the first error of them.

    For cleaning up: `asyncio.gather` does not wait for the others after one has failed, and cancels
    them when we are cancelled.
    """
    tasks = [asyncio.ensure_future(each) for each in begun]
    await ended(tasks)
    for task in tasks:
        task.result()


async def cancel(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel each once, except None, and wait until all have ended."""
    there = [task for task in tasks if task is not None]
    for task in there:
        task.cancel()
    await ended(there)


async def ended(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Wait until all have ended, even if we are cancelled; the cancellation is raised afterwards.

    Their own errors are not raised: whoever reads their results gets them.
    """
    cancelled: asyncio.CancelledError | None = None
    while waiting := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # else asyncio would log it as never retrieved
    if cancelled is not None:
        raise cancelled
