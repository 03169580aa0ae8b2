"""Background work has ended when its parts have ended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from deploy.stack.starting import keep_going


async def test_a_cancelled_stop_waits_for_work_that_undoes_something() -> None:
    begun, undoing, let_go, undone = (asyncio.Event() for _ in range(4))

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            undoing.set()
            await let_go.wait()
            undone.set()

    parts = AsyncExitStack()
    keep_going(work, "some work", parts)
    await begun.wait()
    ending = asyncio.create_task(parts.aclose())
    await undoing.wait()
    ending.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not ending.done()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert undone.is_set()
