"""Write hosts that are killed, stopped or hang: seen at once, made good in seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psutil
import pytest
import ray
from ray.util import list_named_actors

from actors.envelope import enclose
from actors.write_side import WriteSide
from domain.orders.commands import AddLine, CreateOrder, PlaceOrder
from eventstore.kurrentdb.log import EventLog
from rayfold import Command, NotFound, Placement, Registry

DEADLINE = 60.0
"""Seconds for whatever a test waits for; the usual times are printed, see `pytest -s`."""


@pytest.fixture(params=[Placement.SHARDED, Placement.DEDICATED])
def placed(
    request: pytest.FixtureRequest, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> Placement:
    monkeypatch.setattr(registry.aggregates["order"], "placement", request.param)
    return request.param


async def not_ready(side: WriteSide) -> list[str]:
    return [part["part"] for part in await side.status() if not part["ready"]]


async def until(side: WriteSide, *, ready: bool) -> float:
    """Look until all parts are ready, or until one is not; the seconds that it took."""
    began = time.monotonic()
    while (not await not_ready(side)) is not ready:
        assert time.monotonic() - began < DEADLINE
        await asyncio.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_writer_that_falls_silent_is_replaced(
    side: WriteSide, registry: Registry, placed: Placement, number: signal.Signals
) -> None:
    order = uuid4()
    await side.bus.send(enclose(registry, CreateOrder(order_id=order, customer_id="ada")))
    pids = await side.pids()
    for pid in pids:
        os.kill(pid, number)
    began = time.monotonic()
    line = AddLine(order_id=order, sku="tea", quantity=1, unit_price_cents=450)
    sending = asyncio.create_task(side.bus.send(enclose(registry, line, timeout=DEADLINE)))
    try:
        if number is signal.SIGSTOP:
            print(f"noticed after {await until(side, ready=False):.1f} s")
        receipt = await sending
        assert receipt.revision == 1
        print(f"answered after {time.monotonic() - began:.1f} s")
        await until(side, ready=True)
        print(f"ready after {time.monotonic() - began:.1f} s")
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def test_shards_of_a_silent_host_are_at_another_until_it_is_replaced(
    side: WriteSide, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.aggregates["order"], "placement", Placement.SHARDED)
    orders = [uuid4() for _ in range(32)]

    async def send(command: Command) -> int:
        return (await side.bus.send(enclose(registry, command, timeout=DEADLINE))).revision

    await side.scale(2)
    try:
        await asyncio.gather(
            *(send(CreateOrder(order_id=each, customer_id="a")) for each in orders)
        )
        stopped = hosts_of(await side.status())["write#1"]
        os.kill(stopped["pid"], signal.SIGSTOP)
        began = time.monotonic()
        lines = [
            AddLine(order_id=each, sku="tea", quantity=1, unit_price_cents=450) for each in orders
        ]
        assert set(await asyncio.gather(*map(send, lines))) == {1}
        print(f"all answered after {time.monotonic() - began:.1f} s")
        await until(side, ready=True)
        print(f"ready after {time.monotonic() - began:.1f} s")
        while {each["shards"] for each in hosts_of(await side.status()).values()} != {128}:
            assert time.monotonic() - began < DEADLINE
            await asyncio.sleep(0.05)
        assert set(await asyncio.gather(*(send(PlaceOrder(order_id=each)) for each in orders))) == {
            2
        }
        hosts = hosts_of(await side.status())
        assert hosts["write#1"]["pid"] != stopped["pid"]
        assert hosts["write#1"]["restarts"] == stopped["restarts"] + 1
    finally:
        with suppress(ProcessLookupError, UnboundLocalError):
            os.kill(stopped["pid"], signal.SIGKILL)
        await side.scale(1)


def hosts_of(status: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {part["part"]: part for part in status if "shards" in part}


async def test_commands_wait_for_another_ray(
    side: WriteSide, registry: Registry, placed: Placement
) -> None:
    order = uuid4()
    await side.bus.send(enclose(registry, CreateOrder(order_id=order, customer_id="ada")))
    await end_all_actors(side)
    await side.lose()
    assert await not_ready(side)
    line = AddLine(order_id=order, sku="tea", quantity=1, unit_price_cents=450)
    waiting = asyncio.create_task(side.bus.send(enclose(registry, line, timeout=60)))
    await asyncio.sleep(0)
    await side.heal()
    assert (await waiting).revision == 1
    assert await not_ready(side) == []


async def end_all_actors(side: WriteSide) -> None:
    """End them as their Ray's end would; return once they are gone, or one might be found again."""
    processes = [psutil.Process(pid) for pid in await side.pids()]
    for actor in list_named_actors(all_namespaces=True):
        if actor["namespace"] == side.settings.namespace:
            ray.kill(ray.get_actor(actor["name"], actor["namespace"]))
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, DEADLINE)
    assert alive == []


async def test_a_stream_deleted_by_another_client_is_dropped_from_memory(
    side: WriteSide, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.aggregates["order"], "placement", Placement.SHARDED)
    order, log = uuid4(), EventLog(side.settings.eventstore)
    await side.bus.send(enclose(registry, CreateOrder(order_id=order, customer_id="ada")))
    before = await aggregates(side)
    await log.delete_stream(f"order-{order}")
    began = time.monotonic()
    while (await aggregates(side) < before) is False:
        assert time.monotonic() - began < DEADLINE
        await asyncio.sleep(0.05)
    line = AddLine(order_id=order, sku="tea", quantity=1, unit_price_cents=450)
    with pytest.raises(NotFound):
        await side.bus.send(enclose(registry, line))
    await log.close()


async def aggregates(side: WriteSide) -> int:
    return sum(part.get("aggregates", 0) for part in await side.status())
