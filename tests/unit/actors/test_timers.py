"""The next due timers of many processes: moved and removed timers do not count."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from actors.processes.timers import Due, Timers

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def fired(timers: Timers, seconds: float) -> list[tuple[str, str, int]]:
    return [(each.key, each.name, each.number) for each in timers.pop_due(at(seconds))]


def test_timers_fire_in_the_order_in_which_they_are_due() -> None:
    timers = Timers()
    timers.replace("a", {"late": (1, at(3)), "soon": (2, at(1))})
    timers.replace("b", {"soon": (1, at(2))})
    assert fired(timers, 0.5) == []
    assert fired(timers, 2) == [("a", "soon", 2), ("b", "soon", 1)]
    assert fired(timers, 9) == [("a", "late", 1)]
    assert fired(timers, 9) == []


def test_a_moved_timer_counts_once_and_fires_at_its_last_instant() -> None:
    timers = Timers()
    for number in range(100):
        timers.replace("a", {"payment": (number, at(number))})
    assert len(timers) == 1
    assert [*timers] == [Due(at(99), "a", "payment", 99)]
    assert fired(timers, 98) == []
    assert fired(timers, 99) == [("a", "payment", 99)]


def test_timers_of_a_process_that_ended_are_removed() -> None:
    timers = Timers()
    timers.replace("a", {"payment": (1, at(1))})
    timers.forget("a")
    timers.forget("a")
    assert len(timers) == 0
    assert fired(timers, 9) == []


def test_a_fired_timer_counts_until_its_process_has_handled_it_and_fires_once() -> None:
    timers = Timers()
    timers.replace("a", {"payment": (1, at(1))})
    assert fired(timers, 1) == [("a", "payment", 1)]
    timers.replace("a", {"payment": (1, at(1))})  # another step was recorded before
    assert len(timers) == 1
    assert fired(timers, 9) == []
    timers.replace("a", {})
    assert len(timers) == 0


def test_stale_timers_are_removed_from_memory() -> None:
    timers = Timers()
    for number in range(100_000):
        timers.replace("a", {"payment": (number, at(number))})
    assert len(timers._heap) < 2000


async def test_a_sleeper_wakes_for_a_timer_that_is_due_before_the_next() -> None:
    timers = Timers()
    now = datetime.now(UTC)
    timers.replace("a", {"payment": (1, now + timedelta(hours=1))})
    await timers.sleep(now)
    sleeping = asyncio.create_task(timers.sleep(now))
    await asyncio.sleep(0)
    timers.replace("b", {"payment": (1, now)})
    async with asyncio.timeout(60):
        await sleeping


async def test_a_clock_that_was_set_ahead_is_noticed_within_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    slept, time = 0.0, loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + slept)
    timers = Timers()
    now = datetime.now(UTC)
    timers.replace("a", {"payment": (1, now + timedelta(hours=1))})
    await timers.sleep(now)  # returns at once: this was not known yet
    sleeping = asyncio.create_task(timers.sleep(now))
    await asyncio.sleep(0)
    slept = 60
    for _ in range(10):
        await asyncio.sleep(0)
    assert sleeping.done()  # it is asked what time it is


async def test_an_instant_at_the_end_of_the_calendar_is_waited_for() -> None:
    timers = Timers()
    timers.replace("a", {"never": (1, datetime.max.replace(tzinfo=UTC))})
    await timers.sleep(datetime.now(UTC))  # returns at once: this was not known yet
    sleeping = asyncio.create_task(timers.sleep(datetime.now(UTC)))
    await asyncio.sleep(0)
    assert not sleeping.done()
    timers.wake()
    await sleeping
