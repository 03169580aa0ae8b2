"""A process side that stops: what breaks keeps nothing else from ending."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from actors.process_side import ProcessSide
from actors.processes.reaching import Switchboard
from actors.processes.settings import ProcessSettings
from actors.schedules.schedule_runner import ScheduleRunner
from rayfold import Registry


class Partition:
    """A process actor that ends, or breaks."""

    def __init__(self, name: str, done: list[str]) -> None:
        self.name, self.done = name, done

    async def end(self) -> None:
        if self.name == "broken":
            raise OSError("an actor breaks")
        for _ in range(5):
            await asyncio.sleep(0)
        self.done.append(self.name)


async def test_what_cannot_be_ended_keeps_no_other_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    async def broken(runner: ScheduleRunner) -> None:
        done.append("scheduled commands")
        raise OSError("the schedules break")

    async def close(switchboard: Switchboard) -> None:
        done.append("switchboard")

    async def look(side: ProcessSide) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            done.append("looking")

    monkeypatch.setattr(ScheduleRunner, "stop", broken)
    monkeypatch.setattr(Switchboard, "close", close)
    writes: Any = SimpleNamespace(bus=None, owner=SimpleNamespace(make_dedicated=None))
    settings = ProcessSettings("domain", "kdb://127.0.0.1:1?Tls=false")
    side = ProcessSide(Registry.load("domain"), settings, writes)
    partitions: list[Any] = [Partition("broken", done), Partition("whole", done)]
    side._partitions = {"fulfilment": partitions}
    side._looking = asyncio.create_task(look(side))
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="an actor breaks"):
        await side.stop()
    assert done == ["looking", "scheduled commands", "whole", "switchboard"]
