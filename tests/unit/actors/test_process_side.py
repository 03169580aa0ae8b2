"""A process side that stops: an error does not prevent the other parts from ending."""

from __future__ import annotations

import asyncio
import threading
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from actors import process_side
from actors.process_side import ProcessSide
from actors.processes.reaching import Switchboard
from actors.processes.settings import ProcessSettings
from actors.schedules.schedule_runner import ScheduleRunner
from rayfold import Registry
from rayfold.runtime.identity import Identity


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


async def test_an_actor_that_cannot_be_ended_does_not_prevent_others_from_ending(
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


async def test_actors_of_the_previous_release_continue_until_ours_take_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Meanwhile they are told where commands go. Actors of removed process managers are ended too.

    While Ray's head does not answer, each actor is looked up once, and no other waits for that.
    """
    names = [f"rayfold:id:process:{name}#0@0@one" for name in ("fulfilment", "gone")]
    told: set[str] = set()
    asked: list[str] = []
    steps: list[str] = []
    both, many_looks, is_head_back = asyncio.Event(), asyncio.Event(), threading.Event()
    looks = count(1)

    def actor(name: str, namespace: str) -> Any:
        asked.append(name)
        is_head_back.wait(60)

        async def ask_at(address: tuple[Any, ...]) -> None:
            told.add(name)
            if told == {*names}:
                both.set()

        return SimpleNamespace(ask_at=SimpleNamespace(remote=ask_at), name=name)

    async def go_on(side: ProcessSide, name: str) -> None:
        steps.append(f"{name} goes on")

    async def nothing(*_: object) -> None:
        pass

    async def address(*_: object) -> tuple[str, int, bytes]:
        if next(looks) == 5:
            many_looks.set()
        return "127.0.0.1", 1, b"key"

    monkeypatch.setattr(process_side, "LOOK", 0.01)
    monkeypatch.setattr(process_side, "SILENCE", 0.01)
    monkeypatch.setattr(
        process_side, "list_named_actors", lambda: [*names, "rayfold:id:write#0@one"]
    )
    monkeypatch.setattr(ray, "get_actor", actor)
    monkeypatch.setattr(ray, "kill", lambda found: steps.append(found.name))
    monkeypatch.setattr(ProcessSide, "_go_on", go_on)
    monkeypatch.setattr(ProcessSide, "_address", address)
    monkeypatch.setattr(ScheduleRunner, "start", nothing)
    monkeypatch.setattr(ScheduleRunner, "stop", nothing)
    writes: Any = SimpleNamespace(bus=None, owner=SimpleNamespace(make_dedicated=None))
    settings = ProcessSettings(
        "domain",
        "kdb://127.0.0.1:1?Tls=false",
        identity=Identity("id", domain="two"),
        detached=True,
    )
    side = ProcessSide(Registry.load("domain"), settings, writes)
    await side.start(follows=True)
    async with asyncio.timeout(60):
        await many_looks.wait()
        assert sorted(asked) == names
        is_head_back.set()
        await both.wait()
    assert not steps
    await side.take_over()
    assert steps == [names[1], "fulfilment goes on"]
    await side.stop()
