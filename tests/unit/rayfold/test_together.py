"""Concurrent work ends together: each task can clean up what it began."""

from __future__ import annotations

import asyncio

import pytest

from rayfold.runtime.together import all_done, together

PATIENCE = 30.0


class Beginning:
    """Goes on until it is cancelled, and takes some turns of the loop to undo what it has begun."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self.begun, self.undoing = asyncio.Event(), asyncio.Event()
        self.undone = False

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.undoing.set()
            for _ in range(self._turns):
                await asyncio.sleep(0)
            self.undone = True


async def given(value: int) -> int:
    return value


async def failing() -> None:
    raise LookupError("this one")


async def test_each_returns_its_own_result() -> None:
    assert await together(given(1), given(2)) == [1, 2]
    assert await together() == []


async def test_a_failure_is_raised_once_the_others_have_cleaned_up() -> None:
    quick, slow = Beginning(0), Beginning(20)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(LookupError, match="this one"):
            await together(quick(), slow(), failing())
    assert quick.undone
    assert slow.undone


async def test_a_cancellation_after_a_failure_interrupts_no_cleanup() -> None:
    slow, fail = Beginning(20), asyncio.Event()

    async def failing_then() -> None:
        await fail.wait()
        raise LookupError("this one")

    running = asyncio.create_task(together(slow(), failing_then()))
    async with asyncio.timeout(PATIENCE):
        await slow.begun.wait()
        fail.set()
        await slow.undoing.wait()
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await running
    assert slow.undone


async def test_a_task_that_cancels_itself_ends_all() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    other = Beginning(0)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await together(other(), cancelled())
    assert other.undone


async def test_a_cancellation_interrupts_no_cleanup() -> None:
    quick, slow = Beginning(0), Beginning(20)
    running = asyncio.create_task(together(quick(), slow()))
    async with asyncio.timeout(PATIENCE):
        await quick.begun.wait()
        await slow.begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert quick.undone
    assert slow.undone


async def test_all_ends_are_completed_whatever_another_raises_and_however_often_cancelled() -> None:
    let_go, ended = asyncio.Event(), []

    async def end() -> None:
        await let_go.wait()
        ended.append(1)

    async def all_of_them() -> None:
        await all_done(failing(), end(), end())

    waiting = asyncio.create_task(all_of_them())
    for _ in range(3):
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(ended) == 2
    with pytest.raises(LookupError, match="this one"):
        await all_of_them()
    assert len(ended) == 4
