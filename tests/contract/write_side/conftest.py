"""The same write side in three places; Ray is started once for all tests of the folder."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from actors.host.state.postgres import PostgresStates
from actors.local import LocalRuntime
from actors.write_side import WriteSide
from eventstore.kurrentdb.log import EventLog
from rayfold import Placement, Registry, Storage
from tests.contract.write_side.runtimes import Orders
from tests.write_sides import write_side

PLACES = [
    "local",
    "local on a server",
    "sharded",
    "dedicated",
    "state-stored in memory",
    "state-stored",
]


@pytest.fixture(scope="package")
async def side(registry: Registry, eventstore: str, postgres: str) -> AsyncIterator[WriteSide]:
    """The one on Ray."""
    async with write_side(registry, eventstore, postgres) as side:
        yield side


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """Where it runs, with what that needs; so that the local one alone starts nothing."""
    if request.param in ("local", "state-stored in memory"):
        return request.param, None
    if request.param == "state-stored":
        needed = ("eventstore", "postgres")
        return request.param, [request.getfixturevalue(each) for each in needed]
    if request.param == "local on a server":
        return request.param, request.getfixturevalue("eventstore")
    return request.param, request.getfixturevalue("side")


@pytest.fixture
async def orders(
    place: tuple[str, Any], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Orders]:
    """The write side, wherever it runs."""
    kind, needs = place
    if kind == "local":
        runtime = LocalRuntime(registry)

        async def again() -> Any:
            return LocalRuntime(registry, runtime.log).bus

        yield Orders(registry, runtime.bus, runtime.log, again, runtime.host.delete)
    elif kind == "state-stored in memory":
        monkeypatch.setattr(registry.aggregates["order"], "storage", Storage.STATE)
        first = LocalRuntime(registry)

        async def next_one() -> Any:
            return LocalRuntime(registry, first.log, states=first.states).bus

        yield Orders(registry, first.bus, first.log, next_one, first.host.delete, first.states)
    elif kind == "state-stored":
        monkeypatch.setattr(registry.aggregates["order"], "storage", Storage.STATE)
        uri, dsn = needs
        server, opened = EventLog(uri), []

        async def on_servers() -> LocalRuntime:
            states = PostgresStates(dsn)
            runtime = LocalRuntime(registry, server, states=states)
            await runtime.host.prepare()
            opened.append(states)
            return runtime

        stored = await on_servers()

        async def after_it() -> Any:
            return (await on_servers()).bus

        states = stored.states
        yield Orders(registry, stored.bus, server, after_it, stored.host.delete, states)
        for each in opened:
            await each.close()
        await server.close()
    elif kind == "local on a server":
        # Without `append_records`, as on an older server.
        pipelined = EventLog(needs, atomic=False)

        here = LocalRuntime(registry, pipelined)

        async def another() -> Any:
            return LocalRuntime(registry, pipelined).bus

        yield Orders(registry, here.bus, pipelined, another, here.host.delete)
        await pipelined.close()
    else:
        side: WriteSide = needs
        log = EventLog(side.settings.eventstore)
        placement = Placement.SHARDED if kind == "sharded" else Placement.DEDICATED
        monkeypatch.setattr(registry.aggregates["order"], "placement", placement)

        async def crashed() -> Any:
            await kill_writers(side)
            return side.bus

        yield Orders(registry, side.bus, log, crashed, side.delete_stream)
        await log.close()


async def kill_writers(side: WriteSide) -> None:
    """SIGKILL to every writer's process."""
    for pid in await side.pids():
        with suppress(ProcessLookupError):  # it is about to end anyway
            os.kill(pid, signal.SIGKILL)
