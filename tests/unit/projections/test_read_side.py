"""A read side that does not start leaves nothing running."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from projections.errors import ActorUnavailable
from projections.memory.supervisor import MemorySupervisor
from projections.operations.rebuilds import Rebuilds
from projections.read_access import ReadAccess
from projections.read_side import ReadSide
from projections.settings import ReadSettings
from projections.stores.supervisor import StoreSupervisor
from rayfold import Registry


async def test_a_failed_start_ends_what_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    began = asyncio.Event()

    async def wait(supervisor: StoreSupervisor) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            done.append("Postgres was given up")

    class Replica:
        """One that came up."""

        async def end(self) -> None:
            done.append("replicas were ended")

    async def fail(supervisor: MemorySupervisor) -> None:
        replicas: list[Any] = [Replica()]
        supervisor._placements.replicas = replicas
        await began.wait()
        raise ActorUnavailable("no replica comes up")

    monkeypatch.setattr(StoreSupervisor, "start", wait)
    monkeypatch.setattr(MemorySupervisor, "start", fail)
    settings = ReadSettings("domain", "kdb://127.0.0.1:1?Tls=false", "postgresql://127.0.0.1:1/x")
    with pytest.raises(ActorUnavailable, match="no replica"):
        await ReadSide.start(Registry.load("domain"), settings)
    assert done == ["Postgres was given up", "replicas were ended"]


async def test_a_part_that_cannot_be_closed_does_not_keep_others_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[str] = []

    async def broken(supervisor: StoreSupervisor) -> None:
        raise OSError("it cannot be closed")

    async def close(access: ReadAccess) -> None:
        closed.append("the log and the stores that are asked")

    monkeypatch.setattr(StoreSupervisor, "stop", broken)
    monkeypatch.setattr(ReadAccess, "close", close)
    settings = ReadSettings("domain", "kdb://127.0.0.1:1?Tls=false", "postgresql://127.0.0.1:1/x")
    with pytest.raises(OSError, match="cannot be closed"):
        await ReadSide(Registry.load("domain"), settings).stop()
    assert closed


async def test_a_part_that_cannot_be_ended_does_not_prevent_others_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Replica:
        """One that ends, or breaks."""

        def __init__(self, name: str) -> None:
            self.name = name

        async def end(self) -> None:
            if self.name == "broken":
                raise OSError("an actor breaks")
            for _ in range(5):
                await asyncio.sleep(0)
            done.append(self.name)

    async def broken(rebuilds: Rebuilds) -> None:
        raise OSError("a rebuild breaks")

    async def close(access: ReadAccess) -> None:
        done.append("the log and the stores that are asked")

    monkeypatch.setattr(Rebuilds, "stop", broken)
    monkeypatch.setattr(ReadAccess, "close", close)
    settings = ReadSettings("domain", "kdb://127.0.0.1:1?Tls=false", "postgresql://127.0.0.1:1/x")
    side = ReadSide(Registry.load("domain"), settings)
    replicas: list[Any] = [Replica("broken"), Replica("whole")]
    side.placements.replicas = replicas
    with pytest.raises(OSError, match="an actor breaks"):
        await side.end()
    assert done == ["whole", "the log and the stores that are asked"]
