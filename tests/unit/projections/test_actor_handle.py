"""What the users of a part learn about its actor."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError

from projections.errors import ActorUnavailable, UnknownTarget
from projections.supervision import actor_handle
from projections.supervision.actor_handle import ActorHandle, answering
from rayfold.runtime import current_actor
from tests.own_loop import own_loop


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
async def test_a_part_says_whether_it_could_fold_the_event(outcome: bool) -> None:
    assert await replayed(outcome) is outcome


async def test_an_event_that_is_not_parked_is_distinguished_from_a_silent_actor() -> None:
    with pytest.raises(UnknownTarget, match="not parked"):
        await replayed(RayTaskError("replay", "", UnknownTarget("not parked")))
    with pytest.raises(ActorUnavailable, match="postgres:v"):
        await replayed(RayTaskError("replay", "", ValueError("broke")))
    with pytest.raises(ActorUnavailable, match="postgres:v"):
        await replayed(RayActorError())


class _Silent:
    """Answers `status` until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.stopped = False
        self.status = self

    async def remote(self) -> dict[str, Any]:
        if self.stopped:
            await asyncio.Event().wait()
        return {"pid": self._pid, "ready": True, "position": 7}


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[_Silent]:
    """What was started, the last one last; what is ended answers no more. Patience is short."""
    monkeypatch.setattr(actor_handle, "SILENCE", 60.0)  # one that answers may take its time
    monkeypatch.setattr(actor_handle, "PATIENCE", 0.1)
    monkeypatch.setattr(current_actor.ray, "kill", lambda actor: setattr(actor, "stopped", True))
    return []


def silent(spawned: list[_Silent]) -> ActorHandle:
    def spawn() -> _Silent:
        spawned.append(_Silent(len(spawned) + 1))
        return spawned[-1]

    return ActorHandle("memory:v#0", "memory", ["v"], spawn)


async def unanswered(handle: ActorHandle) -> None:
    """Look at one that is silent, and wait but little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actor_handle, "SILENCE", 0.01)
        await handle.look()


async def test_an_actor_that_falls_silent_is_not_ready_and_then_replaced(
    spawned: list[_Silent],
) -> None:
    handle = silent(spawned)
    await handle.look()
    assert handle.ready
    spawned[0].stopped = True
    await unanswered(handle)
    assert (handle.ready, handle.seen, len(spawned)) == (False, {"error": "TimeoutError"}, 1)
    async with asyncio.timeout(30):
        while len(spawned) < 2:
            await unanswered(handle)
    await handle.look()
    assert (handle.ready, len(spawned)) == (True, 2)
    assert (handle.restarts, handle.progress.position) == (1, 7)


async def test_an_actor_that_is_silent_for_a_moment_is_not_replaced(spawned: list[_Silent]) -> None:
    handle = silent(spawned)
    for _ in range(20):
        await handle.look()
        spawned[0].stopped = True
        await unanswered(handle)
        spawned[0].stopped = False
    assert len(spawned) == 1


async def test_an_actor_that_is_still_starting_is_waited_for(
    spawned: list[_Silent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_handle, "PATIENCE", 0.0)
    handle = silent(spawned)
    spawned[0].stopped = True
    for _ in range(5):
        await unanswered(handle)
    assert len(spawned) == 1


class _Broken:
    """Breaks while it is made, as Ray tells it whenever it is called."""

    def __init__(self) -> None:
        self.status = self

    async def remote(self) -> None:
        raise RayActorError(error_msg=f"in its creation task\nDomainError: {OTHER}")


OTHER = "node vm has another domain (two, not one): install the same there"


async def test_an_error_that_prevents_an_actor_from_starting_is_reported_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handle = ActorHandle("memory:v#0", "memory", ["v"], _Broken)
    for _ in range(3):
        await handle.look()
    assert handle.status(1, 0.0)["error"] == OTHER
    assert [each.message for each in caplog.records] == ["an actor does not come up"]


async def test_the_error_of_an_actor_is_reported_while_the_next_one_starts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next start may take longer than an actor may be silent."""

    class Made:
        """Breaks at every second call: what is made again is silent meanwhile."""

        def __init__(self) -> None:
            self.status = self
            self.calls = 0

        async def remote(self) -> dict[str, Any]:
            self.calls += 1
            if self.calls == 5:
                return {"pid": 1, "ready": False, "position": 0}
            if self.calls % 2:
                await _Broken().remote()
            raise TimeoutError

    handle = ActorHandle("memory:v#0", "memory", ["v"], Made)
    for _ in range(4):
        await handle.look()
        assert (handle.seen["error"], handle.seen["broken"]) == (OTHER, True)
    assert [each.message for each in caplog.records] == ["an actor does not come up"]
    await handle.look()
    await handle.look()
    assert handle.seen == {"error": "TimeoutError"}  # it has come up since


def test_a_silent_actor_is_reported_with_its_views() -> None:
    handle = ActorHandle("postgres:all#0", "postgres", ["v", "w"], lambda: None)
    handle.seen = {"error": "TimeoutError"}
    assert handle.status(100, 3.0)["views"] == ["v", "w"]


def test_an_actor_that_gets_only_some_events_reports_its_own_lag() -> None:
    handle = ActorHandle("publication:news", "publication", ["news"], lambda: None)
    handle.seen = {"position": 7, "behind": 0, "behind_seconds": 0.0}
    status = handle.status(100, 31.0)
    assert (status["lag"], status["lag_seconds"]) == (0, 0.0)
    assert "behind" not in status
    handle.seen = {"position": 7}  # it is not at the log's end yet
    status = handle.status(100, 31.0)
    assert (status["lag"], status["lag_seconds"]) == (93, 31.0)


class Starting:
    """Answers nothing until it is ended, and then that it has died."""

    def __init__(self) -> None:
        self.asked, self.ended = asyncio.Event(), asyncio.Event()
        self.status = self.stop = self

    async def remote(self, *_: object) -> None:
        self.asked.set()
        await self.ended.wait()
        raise ActorDiedError


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> tuple[ActorHandle, list[Starting]]:
    """A handle of one that starts, and those that were made for it."""
    made: list[Starting] = []

    def spawn() -> Starting:
        made.append(Starting())
        return made[-1]

    def kill(actor: Any) -> None:
        if isinstance(actor, Starting):
            actor.ended.set()

    monkeypatch.setattr(current_actor.ray, "kill", kill)
    monkeypatch.setattr(current_actor, "NODE_LOSS", 0)
    monkeypatch.setattr(current_actor, "STOP", 0.01)
    return ActorHandle("v", "postgres", ["v"], spawn), made


@own_loop
async def test_if_one_actor_does_not_start_the_others_are_not_made_again(
    starting: tuple[ActorHandle, list[Starting]],
) -> None:
    handle, made = starting

    class Broken:
        """Breaks once the other one is asked."""

        def __init__(self) -> None:
            self.status = self.stop = self

        async def remote(self, *_: object) -> None:
            await made[0].asked.wait()
            raise RayTaskError("status", "", ValueError("broke"))

    before = asyncio.all_tasks()
    with pytest.raises(ActorUnavailable, match="broke"):
        await answering([handle, ActorHandle("w", "postgres", ["w"], Broken)])
    assert not asyncio.all_tasks() - before
    assert len(made) == 1
    assert made[0].ended.is_set()
    assert handle._actor._respawning is None


async def test_a_start_that_is_cancelled_leaves_no_actors(
    starting: tuple[ActorHandle, list[Starting]],
) -> None:
    handle, made = starting
    waiting = asyncio.create_task(answering([handle]))
    async with asyncio.timeout(30):
        while not made:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await made[0].asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert made[0].ended.is_set()


class _Unwilling(ActorHandle):
    """Its end breaks, or takes some turns of the loop."""

    def __init__(self, name: str, ended: list[str], *, breaks: bool) -> None:
        super().__init__(name, "postgres", [name], lambda: None)
        self._ended_ones, self._breaks = ended, breaks

    async def _call(self, method: str, *arguments: Any, respawn: bool = True) -> Any:
        raise ActorUnavailable("it breaks while it is made")

    async def end(self) -> None:
        if self._breaks:
            raise OSError("it cannot be ended")
        for _ in range(5):
            await asyncio.sleep(0)
        self._ended_ones.append(self.name)


async def test_each_actor_that_does_not_start_is_ended_even_if_another_raises() -> None:
    ended: list[str] = []
    handles = [_Unwilling("v", ended, breaks=True), _Unwilling("w", ended, breaks=False)]
    with pytest.raises(ActorUnavailable, match="does not come up"):
        await answering(handles)
    assert ended == ["w"]
