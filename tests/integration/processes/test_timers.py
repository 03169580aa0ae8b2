"""Many timers that are due at nearly the same time: all fire, once, and how late.

A short form, unless `RAYFOLD_TIMERS` says how many: with 10000 they are due within one minute.
Lateness is asserted then, where nobody is killed.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from actors.envelope import enclose
from actors.local import LocalRuntime
from actors.processes.records import TIMED_OUT, read_step
from actors.schedules.schedules import Schedules
from eventstore.kurrentdb.log import EventLog
from rayfold import Registry
from tests.integration.processes import alarms

ROOT = Path(__file__).resolve().parents[3]
COUNT = int(os.environ.get("RAYFOLD_TIMERS", "100"))
LONG = "RAYFOLD_TIMERS" in os.environ
KILLS = [0, 3] if LONG else [1]
WINDOW = 60.0 * COUNT / 10_000
"""Seconds in which all are due."""

AHEAD = 3.0 + COUNT / 200
"""Seconds from now to the first: until then all are to be set."""

DEADLINE = 120.0
PROMISE = 1.0
"""Seconds of lateness that 99 of a hundred stay below."""


class Killed:
    """The process that fires, begun again after each kill."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.begin()

    def begin(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", alarms.__name__, *self.arguments],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("kind", ["timeouts", "commands"])
@pytest.mark.parametrize("kills", KILLS)
async def test_all_fire_once(kind: str, kills: int, eventstore: str, postgres: str) -> None:
    registry = Registry([alarms])
    log = EventLog(eventstore)
    begun = datetime.now(UTC)
    run = uuid4().hex[:8]
    killed = await asyncio.to_thread(Killed, eventstore, postgres)
    try:
        first = datetime.now(UTC) + timedelta(seconds=AHEAD)
        due = {f"{run}-{n}": first + timedelta(seconds=WINDOW * n / COUNT) for n in range(COUNT)}
        await _set(kind, registry, log, due)
        assert datetime.now(UTC) < first, (
            "setting the timers took so long that some were due already"
        )
        for number in range(kills):
            until = first + timedelta(seconds=WINDOW * (number + 0.5) / kills)
            await asyncio.sleep(max((until - datetime.now(UTC)).total_seconds(), 0))
            await asyncio.to_thread(killed.kill)
            await asyncio.to_thread(killed.begin)
        rang, timed_out = await _until_all_rang(log, run, begun)
    finally:
        killed.kill()
        await log.close()
    assert rang.keys() == due.keys()
    if kind == "timeouts":
        assert Counter(timed_out) == Counter(dict.fromkeys(due, 1))
    late = sorted((rang[name] - due[name]).total_seconds() for name in due)
    p99 = late[int(len(late) * 0.99)]
    print(
        f"\n{COUNT} {kind} due within {WINDOW:.0f} s, {kills} kills: late by"
        f" {late[len(late) // 2]:.3f} s (median), {p99:.3f} s (p99), {late[-1]:.3f} s (most)"
    )
    assert late[0] >= 0, "a timer fired before it was due"
    if LONG and not kills:
        assert p99 < PROMISE


async def _set(kind: str, registry: Registry, log: EventLog, due: dict[str, datetime]) -> None:
    schedules, writes = Schedules(log), LocalRuntime(registry, log)

    async def set_one(name: str) -> None:
        async with limit:
            if kind == "timeouts":
                await writes.send(alarms.SetAlarm(alarm=name, due=due[name]))
            else:
                ring = enclose(registry, alarms.Ring(alarm=name))
                await schedules.schedule(ring, due[name])

    limit = asyncio.Semaphore(128)
    await asyncio.gather(*(set_one(name) for name in due))


async def _until_all_rang(
    log: EventLog, run: str, begun: datetime
) -> tuple[dict[str, datetime], list[str]]:
    """Return when each rang, by the log's clock, and whose timeouts were told."""
    rang: dict[str, datetime] = {}
    timed_out: list[str] = []
    position = 0
    idle = 0
    async with asyncio.timeout(AHEAD + WINDOW + DEADLINE):
        while len(rang) < COUNT or idle < 3:  # and a while for one that rings twice
            found = 0
            async for raw in log.read_all(
                [f"alarm-{run}", f"process-ringing-{run}"], after=position or None
            ):
                position, found = raw.position, found + 1
                name = raw.stream[raw.stream.index(run) :]
                if raw.event_type == "AlarmRang":
                    assert name not in rang, f"the timer {name} fired twice"
                    assert raw.recorded_at is not None
                    rang[name] = raw.recorded_at
                elif raw.event_type == TIMED_OUT:
                    assert read_step(raw.data).told.timeout == "ring"
                    timed_out.append(name)
            idle = idle + 1 if not found and len(rang) == COUNT else 0
            await asyncio.sleep(0.5)
    return rang, timed_out
