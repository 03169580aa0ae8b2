"""The write side ends all its parts: even if one raises, and however often it is cancelled."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from actors import write_owner
from actors.schedules.schedule_runner import ScheduleRunner
from actors.write_owner import WriteOwner
from actors.write_settings import WriteSettings
from actors.write_side import WriteSide
from eventstore.memory import MemoryLog
from rayfold import Registry
from tests.unit.stops import Ends, a_while, cancelled_twice

SETTINGS = WriteSettings("domain", "kdb://127.0.0.1:1?Tls=false", hosts=2)


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def owner(done: list[str]) -> WriteOwner:
    owner = WriteOwner(Registry.load("domain"), SETTINGS)
    owner._hosts = [Ends("broken", done), Ends("host", done)]  # type: ignore[list-item]
    owner._deletions = SimpleNamespace(stop=Ends("deletions", done).close)  # type: ignore[assignment]
    return owner


async def test_an_owner_that_stops_closes_all_clients_even_if_one_raises(
    owner: WriteOwner, done: list[str]
) -> None:
    with pytest.raises(OSError, match="a part breaks"):
        await owner.stop()
    assert sorted(done) == ["deletions", "host"]


async def test_an_owner_whose_stop_is_cancelled_closes_all_clients(
    owner: WriteOwner, done: list[str]
) -> None:
    await cancelled_twice(owner.stop)
    assert sorted(done) == ["deletions", "host"]


async def test_an_owner_that_ends_its_hosts_ends_each_and_stops(
    owner: WriteOwner, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_owner, "retire", Ends.close)
    with pytest.raises(OSError, match="a part breaks"):
        await owner.end()
    assert done == ["host", "deletions"]


async def test_a_side_whose_stop_is_cancelled_while_commands_have_no_answer_ends_its_parts(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    side = WriteSide(Registry.load("domain"), SETTINGS)
    monkeypatch.setattr(side.gateway, "idle", asyncio.Event().wait)
    monkeypatch.setattr(side.gateway, "stop", Ends("gateway", done).close)
    monkeypatch.setattr(side.owner, "end", Ends("owner", done).close)
    stopping = asyncio.ensure_future(side.stop())
    await a_while()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert done == ["owner", "gateway"]


async def test_a_runner_of_schedules_whose_stop_is_cancelled_ends_what_it_has_begun(
    done: list[str],
) -> None:
    log: Any = MemoryLog()
    runner = ScheduleRunner(Registry.load("domain"), log, SimpleNamespace(send=None))  # type: ignore[arg-type]

    async def sending(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await Ends(name, done).close()

    runner._begin(sending("one"))
    runner._begin(sending("another"))
    runner._appending = Ends("appending", done)  # type: ignore[assignment]
    await asyncio.sleep(0)
    await cancelled_twice(runner.stop)
    assert sorted(done[:2]) == ["another", "one"]
    assert done[2:] == ["appending"]
