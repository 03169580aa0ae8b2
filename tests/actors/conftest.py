"""The same write side in three places; Ray, store and all are started once a session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.host import HostLimits
from actors.local import LocalRuntime
from actors.write_side import WriteSettings, WriteSide
from eventstore.log import EventLog
from rayfold import Placement, Registry
from tests.actors.runtimes import Orders

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The reference domain."""
    return Registry.load("domain")


@pytest.fixture(scope="session")
def eventstore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded store, as a process."""
    data = tmp_path_factory.mktemp("store")
    process = subprocess.Popen(
        [sys.executable, "-m", "eventstore.embedded", "--port", "0", "--data", str(data)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    yield process.stdout.readline().decode().strip()
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="session")
def on_ray() -> Iterator[None]:
    """Ray on this machine."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["PYTHONPATH"] = str(ROOT)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, namespace="write-tests")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
async def sides(
    registry: Registry, eventstore: str, on_ray: None
) -> AsyncIterator[dict[str, WriteSide]]:
    """A write side of each placement, for the same aggregates."""
    settings = WriteSettings(
        "domain", eventstore, namespace="write-tests", dedicated=8, limits=HostLimits(idle=60)
    )
    side = await WriteSide.start(registry, settings)
    yield {"ray": side}
    await side.stop()


@pytest.fixture(params=["local", "local on a server", "sharded", "dedicated"])
def place(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """Where it runs, with what that needs; so that the local one alone starts nothing."""
    if request.param == "local":
        return request.param, None
    if request.param == "local on a server":
        return request.param, request.getfixturevalue("eventstore")
    return request.param, request.getfixturevalue("sides")["ray"]


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

        yield Orders(registry, runtime.bus, runtime.log, again)
    elif kind == "local on a server":
        # Without `append_records`, as on an older server.
        pipelined = EventLog(needs, atomic=False)

        async def another() -> Any:
            return LocalRuntime(registry, pipelined).bus

        yield Orders(registry, await another(), pipelined, another)
        await pipelined.close()
    else:
        side: WriteSide = needs
        log = EventLog(side.settings.eventstore)
        placement = Placement.SHARDED if kind == "sharded" else Placement.DEDICATED
        monkeypatch.setattr(registry.aggregates["order"], "placement", placement)

        async def crashed() -> Any:
            await kill_writers(side)
            return side.bus

        yield Orders(registry, side.bus, log, crashed)
        await log.close()


async def kill_writers(side: WriteSide) -> None:
    """SIGKILL to every writer's process."""
    for pid in await side.pids():
        os.kill(pid, signal.SIGKILL)
