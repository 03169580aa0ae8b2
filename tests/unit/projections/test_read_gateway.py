"""A gateway that follows routes: which parts it asks, and what it leaves to the owner."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from projections.errors import ActorUnavailable
from projections.read_gateway import ReadGateway
from projections.settings import ReadSettings
from projections.supervision import actor_handle, spawning
from rayfold import Registry
from rayfold.runtime import current_actor
from tests.integration.projections import small


class Remote:
    """What Ray's handles look like."""

    def __init__(self, call: Any) -> None:
        self.remote = call


class Actor:
    """A part at a position, which may have died."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.position = 0
        self.dead = False
        self.told: list[Any] = []
        self.status = Remote(self.say)
        self.reached = Remote(self.come)

    async def say(self, *told: Any) -> dict[str, Any]:
        if self.dead:
            raise ActorDiedError
        self.told.append(told)
        return {"pid": self.pid, "ready": True, "position": self.position, "started": True}

    async def come(self, position: int, timeout: float) -> int:
        await asyncio.sleep(0)
        return self.position


class Ray:
    """Actors by name. Making or ending one is none of a gateway's business."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.actors: dict[str, Actor] = {}
        self.asked: list[str] = []
        monkeypatch.setattr(spawning.ray, "get_actor", self.get_actor)
        for forbidden in ("kill", "remote"):
            monkeypatch.setattr(current_actor.ray, forbidden, self.forbid)

    def get_actor(self, name: str, namespace: str) -> Actor:
        assert namespace == "ns"
        self.asked.append(name)
        if name not in self.actors:
            raise ValueError(f"no actor is named {name}")
        return self.actors[name]

    def forbid(self, *_: Any, **__: Any) -> None:
        raise AssertionError("a gateway must not make or end actors")


def routes(replicas: list[str], projectors: list[str]) -> dict[str, Any]:
    def of(kind: str, names: list[str]) -> dict[str, Any]:
        return {each: {"name": each, "kind": kind, "views": ["totals"]} for each in names}

    return {
        "actors": of("memory", replicas) | of("postgres", projectors),
        "replicas": replicas,
        "projectors": {"totals": projectors},
        "consumers": {},
        "sql": {},
    }


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    ray = Ray(monkeypatch)
    ray.actors = {name: Actor(at) for at, name in enumerate(["m0", "m1", "p0", "p1"], 1)}
    return ray


@pytest.fixture
async def gateway(ray: Ray) -> AsyncIterator[ReadGateway]:
    settings = ReadSettings(
        "small", "kdb://127.0.0.1:1?Tls=false", "postgresql://127.0.0.1:1/x", namespace="ns"
    )
    gateway = ReadGateway(Registry([small]), settings)
    yield gateway
    await gateway.stop()


async def look(gateway: ReadGateway) -> list[bool]:
    handles = gateway.placements.all
    await asyncio.gather(*(each.look() for each in handles))
    return [each.ready for each in handles]


async def test_parts_that_stay_are_kept_and_parts_that_left_are_not_asked(
    gateway: ReadGateway, ray: Ray
) -> None:
    gateway.follow(routes(["m0"], ["p0"]))
    assert await look(gateway) == [True, True]
    [replica] = gateway.placements.replicas
    gateway.follow(routes(["m0", "m1"], ["p1"]))
    assert gateway.placements.replicas[0] is replica
    assert [each.name for each in gateway.placements.all] == ["m0", "m1", "p1"]
    assert await look(gateway) == [True, True, True]
    assert ray.asked.count("m0") == 1


async def test_a_part_that_left_still_answers_open_requests(gateway: ReadGateway) -> None:
    gateway.follow(routes(["m0", "m1"], ["p0"]))
    leaving = gateway.placements.replicas[1]
    leaving.open = 1
    closed = asyncio.Event()
    leaving.close = closed.set  # type: ignore[method-assign]
    gateway.follow(routes(["m0"], ["p0"]))
    await asyncio.sleep(0)
    assert not closed.is_set()
    leaving.open = 0
    leaving._drained.set()
    async with asyncio.timeout(60):
        await closed.wait()


async def test_a_dead_actor_is_looked_up_again_until_somebody_has_made_another(
    gateway: ReadGateway, ray: Ray
) -> None:
    gateway.follow(routes(["m0"], ["p0"]))
    await look(gateway)
    ray.actors.pop("m0").dead = True
    for _ in range(3):
        assert await look(gateway) == [False, True]
    [replica] = gateway.placements.replicas
    with pytest.raises(ActorUnavailable, match="m0 is not there"):
        await replica.parked()
    ray.actors["m0"] = Actor(7)
    assert await look(gateway) == [True, True]
    assert (replica.restarts, replica.seen["pid"]) == (1, 7)


async def test_a_part_that_hangs_is_left_to_its_owner(
    gateway: ReadGateway, ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_handle, "SILENCE", 0.01)
    monkeypatch.setattr(actor_handle, "PATIENCE", 0.0)
    gateway.follow(routes(["m0"], ["p0"]))
    await look(gateway)

    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    ray.actors["m0"].status = Remote(hang)
    for _ in range(5):
        assert (await look(gateway))[0] is False


async def test_a_gateway_that_joins_ray_again_finds_all_actors_again(
    gateway: ReadGateway, ray: Ray
) -> None:
    gateway.follow(routes(["m0"], ["p0"]))
    await look(gateway)
    await gateway.lose()
    assert await look(gateway) == [False, False]
    for handle in gateway.placements.all:
        handle.respawn()
    assert await look(gateway) == [True, True]


async def test_replicas_are_told_how_many_queries_are_open(gateway: ReadGateway, ray: Ray) -> None:
    gateway.follow(routes(["m0"], ["p0"]))
    gateway.placements.in_flight["totals"] = 3
    await look(gateway)
    assert ray.actors["m0"].told == [(gateway.placements.process, {"totals": 3})]
    assert ray.actors["p0"].told == [()]


async def test_waiting_for_a_view_waits_for_the_parts_that_keep_it_now(
    gateway: ReadGateway, ray: Ray
) -> None:
    gateway.follow(routes(["m0"], ["p0"]))
    await look(gateway)
    for there in ("m0", "m1", "p1"):
        ray.actors[there].position = 9
    waiting = asyncio.create_task(gateway.bus.reached(["totals"], 9, 600))
    began = time.monotonic()
    while not gateway.placements.filling("totals")[0]._wanted:
        assert time.monotonic() < began + 60
        await asyncio.sleep(0)
    gateway.follow(routes(["m0"], ["p1"]))  # the projector leaves, and will never come so far
    assert await waiting == []
