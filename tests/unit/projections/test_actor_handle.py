"""What users of a part are told about the actor behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from projections.errors import ActorUnavailable, UnknownTarget
from projections.supervision.actor_handle import ActorHandle


class _Actor:
    """Its `replay` ends so, as Ray would end it."""

    def __init__(self, outcome: bool | Exception) -> None:
        self._outcome = outcome
        self.replay = self

    async def remote(self, view: str, key: str) -> bool:
        assert (view, key) == ("v", "k")
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def replayed(outcome: Any) -> bool:
    handle = ActorHandle("postgres:v", "postgres", ["v"], lambda: _Actor(outcome))
    return await handle.replay("v", "k")


@pytest.mark.parametrize("outcome", [True, False])
async def test_a_part_says_whether_it_came_over_the_event(outcome: bool) -> None:
    assert await replayed(outcome) is outcome


async def test_what_is_not_parked_is_told_from_an_actor_that_does_not_answer() -> None:
    with pytest.raises(UnknownTarget, match="not parked"):
        await replayed(RayTaskError("replay", "", UnknownTarget("not parked")))
    with pytest.raises(ActorUnavailable, match="postgres:v"):
        await replayed(RayTaskError("replay", "", ValueError("broke")))
    with pytest.raises(ActorUnavailable, match="postgres:v"):
        await replayed(RayActorError())


async def test_an_actor_that_ray_has_given_up_is_started_again() -> None:
    spawned = []

    def spawn() -> _Actor:
        spawned.append(_Actor(ActorDiedError() if not spawned else True))
        return spawned[-1]

    handle = ActorHandle("postgres:v", "postgres", ["v"], spawn)
    with pytest.raises(ActorUnavailable):
        await handle.replay("v", "k")
    assert await handle.replay("v", "k")
    assert len(spawned) == 2


async def test_who_waits_for_an_actor_whose_runtime_dies_is_told_so() -> None:
    asked = asyncio.Event()

    class _Silent:
        def __init__(self) -> None:
            self.replay = self

        async def remote(self, view: str, key: str) -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

    actors: list[Any] = [_Silent(), _Actor(True)]
    handle = ActorHandle("postgres:v", "postgres", ["v"], lambda: actors.pop(0))
    waiting = asyncio.create_task(handle.replay("v", "k"))
    await asked.wait()
    handle.lose()
    with pytest.raises(ActorUnavailable, match="started again"):
        await waiting
    with pytest.raises(ActorUnavailable, match="started again"):
        await handle.replay("v", "k")
    assert len(actors) == 1, "a lost actor is not started before there is a runtime"
    handle.respawn()
    assert await handle.replay("v", "k")
