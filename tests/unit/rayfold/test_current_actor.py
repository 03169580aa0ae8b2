"""Which actor a name means, while actors and Ray's runtime come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from rayfold import RayfoldError
from rayfold.runtime import current_actor
from rayfold.runtime.current_actor import CurrentActor


class _Actor:
    """Its `work` ends so, as Ray would end it."""

    def __init__(self, outcome: bool | Exception) -> None:
        self._outcome = outcome
        self.work = self

    async def remote(self) -> bool:
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class ActorUnavailable(RayfoldError):
    """A side's own error."""


def current(spawn: Callable[[], Any]) -> CurrentActor:
    def unavailable(name: str, error: BaseException) -> ActorUnavailable:
        return ActorUnavailable(f"{name}: {error}")

    return CurrentActor("postgres:v", spawn, lambda: None, unavailable, owned=True)


async def test_an_actor_that_ray_gave_up_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(current_actor, "NODE_LOSS", 0)
    spawned = []

    def spawn() -> _Actor:
        spawned.append(_Actor(ActorDiedError() if not spawned else True))
        return spawned[-1]

    actor = current(spawn)
    with pytest.raises(ActorUnavailable):
        await actor.call("work")
    assert actor._respawning is not None
    await actor._respawning
    assert await actor.call("work")
    assert len(spawned) == 2


async def test_an_actor_that_died_is_not_started_again_when_ray_itself_is_gone() -> None:
    spawned = []

    def spawn() -> _Actor:
        spawned.append(_Actor(ActorDiedError()))
        return spawned[-1]

    actor = current(spawn)
    for _ in range(3):
        with pytest.raises(ActorUnavailable):
            await actor.call("work")
    actor.lose()
    with pytest.raises(ActorUnavailable):
        await actor.call("work")
    actor.leave()
    assert len(spawned) == 1


async def test_a_caller_is_told_if_the_ray_runtime_of_its_actor_dies() -> None:
    asked = asyncio.Event()

    class _Silent:
        def __init__(self) -> None:
            self.work = self

        async def remote(self) -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

    actors: list[Any] = [_Silent(), _Actor(True)]
    actor = current(lambda: actors.pop(0))
    waiting = asyncio.create_task(actor.call("work"))
    await asked.wait()
    actor.lose()
    with pytest.raises(ActorUnavailable, match="started again"):
        await waiting
    with pytest.raises(ActorUnavailable, match="started again"):
        await actor.call("work")
    assert len(actors) == 1, "a lost actor must not be started before there is a runtime"
    actor.respawn()
    assert await actor.call("work")


async def test_two_callers_that_meet_a_dead_actor_start_one_new_actor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(current_actor, "NODE_LOSS", 0)

    class Dead:
        """Is found dead at the same time by all."""

        def __init__(self) -> None:
            self.work = self

        async def remote(self, *_: object) -> None:
            await asyncio.sleep(0)
            raise ActorDiedError

    started: list[Dead] = []
    actor = current(lambda: started.append(Dead()) or started[-1])
    both = await asyncio.gather(actor.call("work"), actor.call("work"), return_exceptions=True)
    assert [type(each) for each in both] == [ActorUnavailable, ActorUnavailable]
    assert actor._respawning is not None
    await actor._respawning
    assert len(started) == 2


async def test_an_actor_that_cannot_be_ended_counts_as_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(actor: object) -> None:
        raise ValueError("there is no such actor")

    monkeypatch.setattr(current_actor.ray, "kill", refuse)
    stopping = _Stopping()
    stopping.let_go.set()
    await current(lambda: stopping).end()


async def test_an_actor_is_ended_even_if_the_end_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(current_actor.ray, "kill", killed.append)
    stopping = _Stopping()
    ending = asyncio.create_task(current(lambda: stopping).end())
    await stopping.asked.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert killed == [stopping]


class _Making:
    """Makes one that is gone already, then another, once it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.made: list[_Actor] = []

    def __call__(self) -> _Actor:
        if self.made:
            self.begun.set()
            assert self.let_go.wait(60)
        self.made.append(_Actor(ActorDiedError()))
        return self.made[-1]


@pytest.mark.parametrize("late", [False, True])
async def test_an_actor_that_is_being_made_again_is_ended_too(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """Although its caller is cancelled by the stop; also an actor that comes up after it."""
    monkeypatch.setattr(current_actor, "NODE_LOSS", 0)
    monkeypatch.setattr(current_actor, "STOP", 0.01 if late else 60.0)
    killed: list[Any] = []
    monkeypatch.setattr(current_actor.ray, "kill", killed.append)
    making = _Making()
    actor = current(making)
    with pytest.raises(ActorUnavailable):
        await actor.call("work")
    assert await asyncio.to_thread(making.begun.wait, 60)
    monkeypatch.setattr(_Actor, "stop", SimpleNamespace(remote=_died), raising=False)
    ending = asyncio.create_task(actor.end())
    if late:
        await ending
    await asyncio.sleep(0)
    making.let_go.set()
    await ending
    assert actor._making is not None
    await actor._making
    assert killed == making.made
    assert len(killed) == 2
    await actor._respawn_instead(actor.ray_actor)  # whoever meets it later makes none
    assert len(making.made) == 2


async def _died() -> None:
    raise ActorDiedError


class _Stopping:
    """Stops once it is let go."""

    def __init__(self) -> None:
        self.let_go, self.asked = asyncio.Event(), asyncio.Event()
        self.stop = self

    async def remote(self) -> None:
        self.asked.set()
        await self.let_go.wait()
