"""Blocking work is waited for, because it cannot be interrupted."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rayfold.runtime.threads import in_thread

PATIENCE = 30.0


async def test_work_in_a_thread_is_waited_for_however_often_it_is_cancelled() -> None:
    begun, let_go, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        if let_go.wait(PATIENCE):
            done.set()

    waiting = asyncio.create_task(in_thread(work))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    for _ in range(3):
        waiting.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not waiting.done()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done.is_set()


async def test_its_result_or_error_is_passed_on() -> None:
    def broken() -> None:
        raise LookupError("in there")

    assert await in_thread(lambda: 7) == 7
    with pytest.raises(LookupError, match="in there"):
        await in_thread(broken)
