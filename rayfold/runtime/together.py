"""Tasks that run together: they all end before the caller continues, also on errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any


async def together(*begun: Awaitable[Any]) -> list[Any]:
    """Return what each gives; when one fails or we are cancelled, the others have ended before.

    Each is cancelled once, so that it can undo in peace what it has begun. With `asyncio.gather`
    the others go on where one has failed; and a cancellation comes to each as often as to us.
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
    """Let each come to its end, however often we are cancelled; raise what the first of them does.

    For what ends things: with `asyncio.gather` nobody waits for the others where one has failed,
    and they are cancelled where we are.
    """
    tasks = [asyncio.ensure_future(each) for each in begun]
    await ended(tasks)
    for task in tasks:
        task.result()


async def cancel(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel each once, as far as there are any, and wait until all have `ended`."""
    there = [task for task in tasks if task is not None]
    for task in there:
        task.cancel()
    await ended(there)


async def ended(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Wait until all have, however often we are cancelled meanwhile; that is raised in the end.

    What they raise is for who asks for their results.
    """
    cancelled: asyncio.CancelledError | None = None
    while waiting := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(waiting)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()  # else it would be told as one that nobody asked for
    if cancelled is not None:
        raise cancelled
