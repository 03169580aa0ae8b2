"""Many waits, each with its deadline, on one timer."""

from __future__ import annotations

import asyncio
import time

import pytest

from rayfold.runtime.deadlines import Deadlines


async def wait_until(deadlines: Deadlines, deadline: float, what: asyncio.Event) -> str:
    with deadlines.until(deadline):
        await what.wait()
    return "came"


async def test_a_wait_ends_at_its_deadline_and_others_go_on() -> None:
    deadlines, came = Deadlines(), asyncio.Event()
    soon = time.monotonic() + 0.05
    late = asyncio.create_task(wait_until(deadlines, soon + 60, came))
    with pytest.raises(TimeoutError):
        await wait_until(deadlines, soon, came)
    assert time.monotonic() >= soon
    came.set()
    assert await late == "came"


async def test_a_deadline_that_has_passed_is_refused_before_anything_is_done() -> None:
    with pytest.raises(TimeoutError), Deadlines().until(time.monotonic() - 1):
        raise AssertionError


async def test_without_a_deadline_a_wait_has_no_limit() -> None:
    deadlines, came = Deadlines(), asyncio.Event()
    waiting = asyncio.create_task(wait_until(deadlines, float("inf"), came))
    await asyncio.sleep(0)
    came.set()
    assert await waiting == "came"


async def test_a_task_that_is_cancelled_from_elsewhere_is_cancelled() -> None:
    deadlines, came = Deadlines(), asyncio.Event()
    waiting = asyncio.create_task(wait_until(deadlines, time.monotonic() + 60, came))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_task_goes_on_after_its_deadline() -> None:
    deadlines, never = Deadlines(), asyncio.Event()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await wait_until(deadlines, time.monotonic() + 0.01, never)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
