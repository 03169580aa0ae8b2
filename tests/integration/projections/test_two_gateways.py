"""One owner of the actors and two gateways that follow it, also while the owner changes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest
import ray

from actors.envelope import enclose
from actors.write_side import WriteSide
from domain.orders.commands import AddLine, CreateOrder
from domain.orders.queries import GetOrder
from projections.read_gateway import ReadGateway
from projections.read_side import ReadSide
from projections.settings import ReadSettings
from projections.supervision.spawning import leftovers
from rayfold import Receipt, Registry
from rayfold.runtime.identity import Identity
from tests.write_sides import write_side

DEADLINE = 60.0


class Cluster:
    """An owner that may be away, and two gateways."""

    def __init__(self, registry: Registry, settings: ReadSettings, writes: WriteSide) -> None:
        self.registry = registry
        self.settings = settings
        self.writes = writes
        self.owner: ReadSide | None = None
        self.gateways = [ReadGateway(registry, settings) for _ in range(2)]
        self.published = 0

    async def own(self) -> ReadSide:
        """Start an owner, which the gateways follow."""
        self.owner = owner = await ReadSide.start(self.registry, self.settings)
        owner.placements.on_change = self.publish
        await self.publish()
        return owner

    async def publish(self) -> None:
        """Tell the gateways, as the routing table does."""
        assert self.owner is not None
        self.published += 1
        for gateway in self.gateways:
            gateway.follow(json.loads(json.dumps(self.owner.routes())))

    async def order(self) -> tuple[str, Receipt]:
        """Write an order of one line."""
        order = uuid4()
        await self._send(CreateOrder(order_id=order, customer_id="ann"))
        return str(order), await self.add(str(order))

    async def add(self, order: str) -> Receipt:
        return await self._send(
            AddLine(order_id=order, sku="a", quantity=1, unit_price_cents=5)  # type: ignore[arg-type]
        )

    async def _send(self, command: Any) -> Receipt:
        return await self.writes.bus.send(enclose(self.registry, command))

    async def read(self, at: int, order: str, receipt: Receipt, store: str) -> dict[str, Any]:
        query = GetOrder(order_id=order)  # type: ignore[arg-type]
        answer = await self.gateways[at].bus.ask(
            query, at_least=receipt.position, timeout=DEADLINE, store=store
        )
        assert answer.body is not None
        return dict(json.loads(answer.body))

    def pids(self) -> dict[str, int]:
        """Return the actors' processes as the second gateway sees them."""
        return {each.ray_name: each.seen["pid"] for each in self.gateways[1].placements.all}


@pytest.fixture
async def cluster(registry: Registry, eventstore: str, postgres: str) -> AsyncIterator[Cluster]:
    settings = ReadSettings(
        "domain",
        eventstore,
        postgres,
        namespace="write-tests",
        identity=Identity("two"),
        detached=True,
    )
    async with write_side(registry, eventstore, postgres) as side:
        cluster = Cluster(registry, settings, side)
        await cluster.own()
        for gateway in cluster.gateways:
            await gateway.start()
        yield cluster
        for gateway in cluster.gateways:
            await gateway.stop()
        if cluster.owner is not None:
            await cluster.owner.end()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_two_gateways_give_the_same_answers_while_the_owner_of_the_actors_changes(
    cluster: Cluster,
) -> None:
    # A token from anywhere is honoured at each, in each store; so is waiting for the views.
    order, receipt = await cluster.order()
    for at in (0, 1):
        assert (
            await cluster.gateways[at].bus.reached(
                ["order-details", "sales-by-day"], receipt.position, DEADLINE
            )
            == []
        )
        for store in ("memory", "postgres"):
            assert (await cluster.read(at, order, receipt, store))["revision"] == 1

    # A live query that ends at one gateway goes on at the other, after what was seen.
    async def next_state(at: int, after: int | None) -> tuple[int, dict[str, Any]]:
        query = GetOrder(order_id=order)  # type: ignore[arg-type]
        async with aclosing(cluster.gateways[at].bus.live(query, after=after)) as states:
            async with asyncio.timeout(DEADLINE):
                position, body = await anext(states)
        return position, json.loads(body)

    seen, state = await next_state(0, receipt.position)
    assert state["revision"] == 1
    receipt = await cluster.add(order)
    again, state = await next_state(1, receipt.position)
    assert (again >= receipt.position > seen, state["revision"]) == (True, 2)

    # Scaled up and down: no query fails meanwhile, and nothing is left.
    owner = cluster.owner
    assert owner is not None
    stop = asyncio.Event()

    async def reading(at: int) -> int:
        reads = 0
        while not stop.is_set():
            await cluster.read(at, order, receipt, "memory")
            reads += 1
            await asyncio.sleep(0)
        return reads

    readers = [asyncio.create_task(reading(at)) for at in (0, 1)]
    before = cluster.published
    await owner.scaling.scale("memory", 2)
    assert cluster.published > before
    assert [len(each.placements.replicas) for each in cluster.gateways] == [2, 2]
    await until(lambda: ready(cluster))

    # What the gateways ask is the load that the owner sees.
    async def loaded() -> bool:
        return any(each.seen.get("in_flight") for each in owner.placements.replicas)

    await until(loaded)
    await owner.scaling.scale("memory", 1)
    stop.set()
    assert all(await asyncio.gather(*readers))
    assert [len(each.placements.replicas) for each in cluster.gateways] == [1, 1]

    # Nobody owns them: what runs goes on; a replica that dies is there again, found by its name.
    await cluster.gateways[1].monitor.look()
    pids = cluster.pids()
    await owner.stop()
    cluster.owner = None
    order, receipt = await cluster.order()
    for store in ("memory", "postgres"):
        assert (await cluster.read(1, order, receipt, store))["revision"] == 1
    [replica] = cluster.gateways[1].placements.replicas
    os.kill(pids[replica.ray_name], signal.SIGKILL)
    receipt = await cluster.add(order)
    assert (await cluster.read(1, order, receipt, "memory"))["revision"] == 2
    await until(lambda: ready(cluster))
    now = cluster.pids()
    assert now.keys() == pids.keys()
    assert {name for name in pids if now[name] != pids[name]} == {replica.ray_name}

    # The next owner adopts all of them, and ends what it does not want.
    stray = (
        ray.remote(_Stray)
        .options(name="rayfold:two:memory:all#7@old", namespace="write-tests", lifetime="detached")
        .remote()
    )
    await stray.ping.remote()
    owner = await cluster.own()
    await until(lambda: ready(cluster))
    assert cluster.pids() == now
    assert await owner.end_leftovers() == ["rayfold:two:memory:all#7@old"]
    assert await owner.verification.verify(DEADLINE) == []

    await owner.end()
    cluster.owner = None

    async def gone() -> bool:
        return not await asyncio.to_thread(leftovers, cluster.settings, [])

    await until(gone)


async def ready(cluster: Cluster) -> bool:
    await asyncio.gather(*(each.monitor.look() for each in cluster.gateways))
    return all(each.ready for gateway in cluster.gateways for each in gateway.placements.all)


class _Stray:
    async def ping(self) -> None:
        """Be there."""
