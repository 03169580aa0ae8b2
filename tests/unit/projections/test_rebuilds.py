"""Concurrent rebuilds of one view, and its stores one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.errors import ActorUnavailable, ProjectionError, WouldPark
from projections.memory import supervisor as memory_supervisor
from projections.memory.supervisor import MemorySupervisor
from projections.operations.rebuild import Rebuild
from projections.operations.rebuilds import Rebuilder, Rebuilds
from projections.supervision.placements import Placements
from rayfold import Registry

VIEW = "order-details"


class Building:
    """Rebuilds in every store that the view has, when it is let."""

    def __init__(self) -> None:
        self.begun: list[tuple[Rebuild, str]] = []
        self.has_begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.refused_by = ""
        stores = ("memory", "postgres", "redis")
        self.rebuilds = Rebuilds(
            Registry.load("domain"), MemoryLog(), lambda _: stores, self._rebuilder
        )

    def _rebuilder(self, view: str, store: str) -> Rebuilder:
        async def build(rebuild: Rebuild) -> None:
            self.begun.append((rebuild, store))
            self.has_begun.set()
            await self.may_go_on.wait()
            if store == self.refused_by and not rebuild.accept_parked:
                raise WouldPark(f"{store} would serve less")

        return build

    @property
    def stores(self) -> list[str]:
        """Where something was built, in order."""
        return [store for _, store in self.begun]

    async def first(self) -> Rebuild:
        """Return the rebuild that comes to a store first, once it is there."""
        await asyncio.wait_for(self.has_begun.wait(), 60)
        return self.begun[0][0]


@pytest.fixture
async def building() -> AsyncIterator[Building]:
    it = Building()
    yield it
    await it.rebuilds.stop()


def status(building: Building) -> dict[str, Any]:
    [told] = building.rebuilds.status()
    return told


async def test_a_rebuild_refused_by_a_durable_store_replaces_nothing_in_memory(
    building: Building,
) -> None:
    building.refused_by = "postgres"
    with pytest.raises(ProjectionError, match="postgres would serve less"):
        await building.rebuilds.afresh(VIEW, accept_parked=False)
    assert building.stores == ["postgres"]
    assert (status(building)["state"], status(building)["would_park"]) == ("failed", True)
    building.refused_by = ""
    await building.rebuilds.afresh(VIEW, accept_parked=False)
    assert building.stores[1:] == ["postgres", "redis", "memory"]


async def test_a_second_request_joins_a_running_rebuild_and_may_accept_its_parked_keys(
    building: Building,
) -> None:
    building.refused_by = "redis"
    building.may_go_on.clear()
    first = asyncio.create_task(building.rebuilds.afresh(VIEW, accept_parked=False))
    rebuild = await building.first()
    assert building.rebuilds.begin(VIEW, accept_parked=True)["state"] == "building"
    building.rebuilds.begin(VIEW)  # does not take it back
    assert rebuild.accept_parked
    building.may_go_on.set()
    await first
    assert building.stores == ["postgres", "redis", "memory"]
    assert {id(each) for each, _ in building.begun} == {id(rebuild)}


@pytest.mark.parametrize("refused_by", ["", "postgres"])
async def test_a_fresh_rebuild_begins_after_the_running_one_even_if_that_fails(
    building: Building, refused_by: str
) -> None:
    building.refused_by = refused_by
    building.may_go_on.clear()
    building.rebuilds.begin(VIEW)
    before = await building.first()
    afresh = asyncio.create_task(building.rebuilds.afresh(VIEW, accept_parked=True))
    await asyncio.sleep(0)
    building.rebuilds.begin(VIEW)  # joins the one that goes on: the other has not begun
    assert building.stores == ["postgres"]
    building.may_go_on.set()
    await afresh
    assert not before.running
    assert bool(before.error) == bool(refused_by)
    own = building.begun[-1][0]
    assert own is not before
    assert own.accept_parked
    assert [store for each, store in building.begun if each is own] == [
        "postgres",
        "redis",
        "memory",
    ]
    assert status(building)["state"] == "done"


async def test_two_requests_for_a_fresh_rebuild_share_one_that_begins_later(
    building: Building,
) -> None:
    building.may_go_on.clear()
    building.rebuilds.begin(VIEW)
    before = await building.first()
    both = [
        asyncio.create_task(building.rebuilds.afresh(VIEW, accept_parked=True)) for _ in range(2)
    ]
    await asyncio.sleep(0)
    building.may_go_on.set()
    await asyncio.gather(*both)
    assert len({id(each) for each, _ in building.begun}) == 2  # one for both
    assert not any(each is before for each, _ in building.begun[3:])
    assert not building.begun[-1][0].running


async def test_a_request_during_a_fresh_rebuild_joins_it(building: Building) -> None:
    building.may_go_on.clear()
    afresh = asyncio.create_task(building.rebuilds.afresh(VIEW, accept_parked=True))
    rebuild = await building.first()
    building.rebuilds.begin(VIEW)
    building.may_go_on.set()
    await afresh
    assert {id(each) for each, _ in building.begun} == {id(rebuild)}


class Held:
    """A replica of the view, as its handle says it is."""

    views = (VIEW,)
    name = "memory:all"
    ready = True

    def __init__(self, incarnation: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.seen: dict[str, Any] = {"incarnation": incarnation}
        self.rebuilt: list[str] = []
        self._meanwhile = meanwhile

    async def look(self) -> None: ...

    async def rebuild(self, view: str, *, accept_parked: bool) -> None:
        self.rebuilt.append(self.seen["incarnation"])
        self._meanwhile()


async def test_replicas_that_begin_while_a_view_is_rebuilt_in_memory_are_rebuilt_too() -> None:
    """They may have copied a replica that was not rebuilt yet."""

    def meanwhile() -> None:
        first.seen = {"incarnation": "first again"}
        placements.replicas = [*replicas, new]

    placements = Placements()
    new: Any = Held("new")
    first, second = Held("first"), Held("second", meanwhile)
    replicas: Any = [first, second]
    placements.replicas = [*replicas]
    settings: Any = SimpleNamespace(number=lambda *_: 2)
    supervisor = MemorySupervisor(Registry.load("domain"), settings, placements)
    await supervisor.rebuild(Rebuild(VIEW, ["memory"]))
    assert first.rebuilt == ["first", "first again"]
    assert second.rebuilt == ["second"]
    assert new.rebuilt == ["new"]


def supervising(*replicas: Any) -> MemorySupervisor:
    """Return what keeps these."""
    settings: Any = SimpleNamespace(number=lambda *_: len(replicas))
    placements = Placements()
    placements.replicas = [*replicas]
    return MemorySupervisor(Registry.load("domain"), settings, placements)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"error": "no such module", "broken": True}, "no such module"),
        ({"error": "TimeoutError"}, "does not answer"),
    ],
)
async def test_a_replica_that_does_not_start_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any], why: str
) -> None:
    whole, away = Held("whole"), Held("away")
    away.ready, away.seen = False, seen
    if "broken" not in seen:
        monkeypatch.setattr(memory_supervisor, "START", 0.0)
        monkeypatch.setattr(memory_supervisor, "LOOK", 0.0)
    async with asyncio.timeout(60):
        with pytest.raises(ActorUnavailable, match=why):
            await supervising(away, whole).rebuild(Rebuild(VIEW, ["memory"]))
    assert whole.rebuilt == ["whole"]


async def test_a_replica_that_answers_is_waited_for_until_it_has_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_supervisor, "START", 0.0)
    monkeypatch.setattr(memory_supervisor, "LOOK", 0.0)
    looks = iter([False, False, False])

    class Copying(Held):
        async def look(self) -> None:
            self.ready = next(looks, True)

    copying = Copying("copying")
    await supervising(copying).rebuild(Rebuild(VIEW, ["memory"]))
    assert copying.rebuilt == ["copying"]
