"""A process actor as its owner sees it: it gets addresses, and is replaced if it hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from actors.errors import Unavailable
from actors.processes import partition_handle
from actors.processes.partition_handle import PartitionHandle
from rayfold import DomainError
from rayfold.runtime import current_actor
from rayfold.runtime.placing import Anywhere, Placed
from rayfold.runtime.rpc import Address

HERE, THERE = Address("127.0.0.1", 1, b"k"), Address("127.0.0.1", 2, b"k")


class Method:
    """Stands for `actor.method`."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer

    async def _awaited(self, *arguments: Any) -> Any:
        found = self.answer(*arguments)
        if isinstance(found, Exception):
            raise found
        if found is ...:
            await asyncio.Event().wait()
        return found

    def remote(self, *arguments: Any) -> Any:
        return self._awaited(*arguments)


class Actor:
    """Answers as a test says: a value, an error, or never (`...`)."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.says: Any = None
        self.asks_at: list[Any] = []
        self.status = Method(lambda: self.says or {"pid": self.pid, "ready": True})
        self.ask_at = Method(self.asks_at.append)
        self.stop = Method(lambda: None)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[Actor]:
    monkeypatch.setattr(partition_handle, "SILENCE", 60.0)  # also where the machine is busy
    monkeypatch.setattr(partition_handle, "PATIENCE", 0.0)
    monkeypatch.setattr(current_actor, "NODE_LOSS", 0.0)
    monkeypatch.setattr(ray, "kill", lambda actor: None)
    return []


@pytest.fixture
async def handle(spawned: list[Actor]) -> PartitionHandle:
    def spawn() -> Actor:
        spawned.append(Actor(len(spawned) + 1))
        return spawned[-1]

    name = "process:fulfilment#0"
    made = PartitionHandle(name, spawn, Placed(Anywhere(), name, "process", "process"))
    await made.start()
    return made


async def test_an_actor_is_told_the_address_once_and_again_when_address_or_process_change(
    handle: PartitionHandle, spawned: list[Actor]
) -> None:
    for address in (HERE, HERE, THERE, THERE):
        await handle.look(address)
    spawned[0].pid = 9  # Ray has started it again
    await handle.look(THERE)
    assert spawned[0].asks_at == [tuple(HERE), tuple(THERE), tuple(THERE)]
    assert handle.status()["restarts"] == 1
    assert handle.ready


async def test_an_actor_that_hangs_is_replaced(
    handle: PartitionHandle, spawned: list[Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    await handle.look(HERE)
    spawned[0].says = ...
    with monkeypatch.context() as waiting_little:
        waiting_little.setattr(partition_handle, "SILENCE", 0.01)
        async with asyncio.timeout(60):
            while len(spawned) < 2:
                await handle.look(HERE)
                assert not handle.ready
    await handle.look(HERE)
    assert handle.ready
    assert spawned[1].asks_at == [tuple(HERE)]


async def test_an_actor_that_wakes_later_than_its_owner_is_not_replaced(
    handle: PartitionHandle, spawned: list[Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was suspended: for long nobody had asked."""
    await handle.look(HERE)
    spawned[0].says = ...
    handle._heard -= 3600.0
    monkeypatch.setattr(partition_handle, "SILENCE", 0.01)
    await handle.look(HERE)
    assert len(spawned) == 1
    await handle.look(HERE)
    assert len(spawned) == 2


async def test_an_actor_that_has_never_answered_has_more_time(
    handle: PartitionHandle, spawned: list[Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_handle, "SILENCE", 0.01)
    spawned[0].says = ...
    for _ in range(5):
        await handle.look(HERE)
    assert len(spawned) == 1


async def test_an_actor_that_ray_gave_up_is_made_again(
    handle: PartitionHandle, spawned: list[Actor]
) -> None:
    spawned[0].says = ActorDiedError()
    async with asyncio.timeout(60):
        while not handle.ready:
            await handle.look(HERE)
            await asyncio.sleep(0)
    assert len(spawned) == 2


async def test_an_actor_that_ray_restarts_is_waited_for(
    handle: PartitionHandle, spawned: list[Actor]
) -> None:
    spawned[0].says = ActorUnavailableError("away", None)
    await handle.look(HERE)
    assert not handle.ready
    assert "ActorUnavailableError" in handle.status()["error"]
    spawned[0].says = None
    await handle.look(HERE)
    assert handle.ready
    assert len(spawned) == 1


async def test_an_actor_whose_status_raises_is_not_ready_and_says_why(
    handle: PartitionHandle, spawned: list[Actor]
) -> None:
    """If the error were raised on, the last known status would stay: the actor seemed ready."""
    await handle.look(HERE)
    spawned[0].says = RayTaskError("status", "", DomainError("it cannot be read here"))
    await handle.look(HERE)
    assert not handle.ready
    assert handle.status()["error"] == "it cannot be read here"
    spawned[0].says = None
    await handle.look(HERE)
    assert handle.ready


async def test_the_handle_says_since_when_its_actor_is_not_ready(
    handle: PartitionHandle, spawned: list[Actor]
) -> None:
    await handle.look(HERE)
    assert "since" not in handle.status()
    spawned[0].says = ActorUnavailableError("away", None)
    await handle.look(HERE)
    since = handle.status()["since"]
    await handle.look(HERE)
    assert handle.status()["since"] == since
    spawned[0].says = None
    await handle.look(HERE)
    assert "since" not in handle.status()


async def test_no_call_goes_to_a_ray_runtime_that_is_gone(
    handle: PartitionHandle, spawned: list[Actor]
) -> None:
    handle.lose()
    await handle.look(HERE)
    assert not handle.ready
    with pytest.raises(Unavailable):
        await handle.ask("retry", "1")
    await handle.start()
    await handle.look(HERE)
    assert handle.ready
    assert len(spawned) == 2


async def test_an_actor_that_was_never_made_is_unavailable_and_need_not_be_ended(
    spawned: list[Actor],
) -> None:
    def spawn() -> Actor:
        spawned.append(Actor(1))
        return spawned[-1]

    handle = PartitionHandle("process:p#0", spawn, Placed(Anywhere(), "p", "process", "p"))
    with pytest.raises(Unavailable, match="is being made"):
        await handle.ask("retry", "1")
    await handle.end()
    assert spawned == []


class Making:
    """Makes an actor once it is let go."""

    def __init__(self, pid: int) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.made = Actor(pid)

    def __call__(self) -> Actor:
        self.begun.set()
        assert self.let_go.wait(60)
        return self.made


async def test_an_actor_whose_start_was_cancelled_is_ended_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    making = Making(1)
    handle = PartitionHandle("process:p#0", making, Placed(Anywhere(), "p", "process", "process"))
    starting = asyncio.create_task(handle.start())
    assert await asyncio.to_thread(making.begun.wait, 60)
    starting.cancel()
    making.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await handle.end()
    assert killed == [making.made]


async def test_an_actor_that_is_being_made_again_is_ended_too(
    handle: PartitionHandle, spawned: list[Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    making = Making(2)
    monkeypatch.setattr(handle._actor, "_spawn", making)
    spawned[0].says = ActorDiedError()
    await handle.look(HERE)
    assert await asyncio.to_thread(making.begun.wait, 60)
    ending = asyncio.create_task(handle.end())
    for _ in range(5):
        await asyncio.sleep(0)
    making.let_go.set()
    await ending
    assert killed == [spawned[0], making.made]
