"""The read side ends all its parts: even if one raises, and however often it is cancelled."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.errors import ProjectionError
from projections.memory.supervisor import MemorySupervisor
from projections.operations.rebuild import Rebuild
from projections.operations.rebuilds import Rebuilds
from projections.outbound_side import OutboundSide
from projections.supervision.placements import Placements
from projections.supervision.watched_actors import WatchedActors
from tests.unit.stops import Ends, a_while, cancelled_twice


async def goes_on(name: str, done: list[str]) -> None:
    """Go on until that is broken off, which takes a while."""
    try:
        await asyncio.Event().wait()
    finally:
        await Ends(name, done).end()


@pytest.fixture
def watched() -> tuple[WatchedActors, list[str]]:
    done: list[str] = []
    settings: Any = SimpleNamespace(detached=False)
    actors = WatchedActors("reactor", settings, SimpleNamespace(), [])  # type: ignore[arg-type]
    actors.handles = [Ends("broken", done), Ends("whole", done)]  # type: ignore[list-item]
    return actors, done


async def test_rebuilds_are_cancelled_cleanly() -> None:
    done: list[str] = []
    rebuilds = Rebuilds(*[SimpleNamespace()] * 4)  # type: ignore[arg-type]
    rebuilds._tasks = {asyncio.create_task(goes_on(each, done)) for each in ("one", "another")}
    await asyncio.sleep(0)
    await cancelled_twice(rebuilds.stop)
    assert sorted(done) == ["another", "one"]


async def test_who_waits_for_a_rebuild_is_told_how_that_one_ended() -> None:
    """The next rebuild may have begun before the waiter looks."""
    registry: Any = SimpleNamespace(views={}, projections={"sales": None}, prefixes=[])
    ends = [asyncio.Event(), asyncio.Event()]
    begun = iter(ends)

    async def breaks(rebuild: Rebuild) -> None:
        await next(begun).wait()
        raise ProjectionError("no room")

    rebuilds = Rebuilds(registry, MemoryLog(), lambda _: (), lambda *_: breaks)
    first = asyncio.create_task(rebuilds.afresh("sales", accept_parked=False))
    await asyncio.sleep(0)
    others = [asyncio.create_task(rebuilds.afresh("sales", accept_parked=False)) for _ in range(2)]
    await a_while()
    ends[0].set()
    with pytest.raises(ProjectionError, match="no room"):
        await first
    ends[1].set()
    for each in others:
        with pytest.raises(ProjectionError, match="no room"):
            await each


async def test_a_cancelled_rebuild_in_memory_leaves_nobody_waiting() -> None:
    asking: list[asyncio.Task[Any]] = []

    async def rebuild(view: str, *, accept_parked: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        asking.append(task)
        await asyncio.Event().wait()

    settings: Any = SimpleNamespace(number=lambda *_: 1)
    placements = Placements()
    replica: Any = SimpleNamespace(
        views=["sales"],
        rebuild=rebuild,
        ready=True,
        seen={"incarnation": "one"},
        look=lambda: asyncio.sleep(0),
    )
    placements.replicas = [replica]
    registry: Any = SimpleNamespace(views={})
    supervisor = MemorySupervisor(registry, settings, placements)
    rebuilding = asyncio.create_task(supervisor.rebuild(Rebuild("sales", ["memory"])))
    await a_while()
    rebuilding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rebuilding
    assert all(each.done() for each in asking)
    assert len(asking) == 1


@pytest.mark.parametrize("how", ["stop", "end"])
async def test_all_actors_are_ended_even_if_one_of_them_raises(
    watched: tuple[WatchedActors, list[str]], how: str
) -> None:
    actors, done = watched
    with pytest.raises(OSError, match="a part breaks"):
        await getattr(actors, how)()
    assert done == ["whole"]


@pytest.mark.parametrize("how", ["stop", "end"])
async def test_all_actors_are_ended_even_if_the_stop_is_cancelled(
    watched: tuple[WatchedActors, list[str]], how: str
) -> None:
    actors, done = watched
    actors.handles = actors.handles[1:]
    actors._watching = asyncio.create_task(goes_on("looking", done))
    await asyncio.sleep(0)
    await cancelled_twice(getattr(actors, how))
    assert done == ["looking", "whole"]


@pytest.mark.parametrize("how", ["stop", "end"])
async def test_reactors_are_ended_even_if_publications_raise(how: str) -> None:
    done: list[str] = []
    side = OutboundSide.__new__(OutboundSide)
    side.publications = Ends("broken", done)  # type: ignore[assignment]
    side.reactors = Ends("reactors", done)  # type: ignore[assignment]
    with pytest.raises(OSError, match="a part breaks"):
        await getattr(side, how)()
    assert done == ["reactors"]
