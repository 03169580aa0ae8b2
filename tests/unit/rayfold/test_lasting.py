"""Background work: it continues after an error, and ends when it is done or cancelled."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rayfold.runtime import lasting as module
from rayfold.runtime.lasting import lasting


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is slept between two attempts, at once. Others' sleep is as it was: they would spin."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(module, "sleep", sleep)
    return slept


async def test_work_that_raises_is_started_again_and_logged(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    errors = [ValueError("first"), KeyError("second")]
    done = []

    async def work() -> None:
        if errors:
            raise errors.pop(0)
        done.append("third")

    with caplog.at_level(logging.ERROR):
        await lasting(work, "the test's work")

    assert done == ["third"]
    assert [type(each.exc_info[1]) for each in caplog.records if each.exc_info] == [
        ValueError,
        KeyError,
    ]
    assert {each.__dict__["work"] for each in caplog.records} == {"the test's work"}


async def test_work_that_raises_again_and_again_waits_longer_up_to_a_bound(
    pauses: list[float],
) -> None:
    left = [*range(8)]

    async def work() -> None:
        if left:
            left.pop()
            raise ValueError

    await lasting(work, "")

    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]


async def test_work_that_ran_for_long_before_it_raised_waits_only_briefly(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    now = [0.0]
    monkeypatch.setattr(loop, "time", lambda: now[0])
    lasted = [0.0, 0.0, 100.0]

    async def work() -> None:
        if lasted:
            now[0] += lasted.pop(0)
            raise ValueError

    await lasting(work, "")

    assert pauses == [1.0, 2.0, 1.0]


async def test_it_can_be_cancelled_as_any_task(caplog: pytest.LogCaptureFixture) -> None:
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting(work, ""))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not caplog.records
