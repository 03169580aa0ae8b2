"""Deletions by others reach whoever has the aggregate in memory."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from actors import deletion_watch
from actors.deletion_watch import DeletionWatch
from actors.envelope import Done, enclose
from actors.host.host import Host
from domain.orders.commands import AddLine, CreateOrder
from eventstore.memory import MemoryLog
from rayfold import NotFound, Registry


async def test_an_aggregate_that_somebody_deletes_is_dropped_from_memory() -> None:
    registry, log = Registry.load("domain"), MemoryLog()
    host, forgotten = Host(registry, log, "test"), asyncio.Queue[str]()

    async def forget(stream: str) -> None:
        host.forget(stream)
        await forgotten.put(stream)

    order = uuid4()
    create = CreateOrder(order_id=order, customer_id="ada")
    line = AddLine(order_id=order, sku="tea", quantity=1, unit_price_cents=450)
    await host.handle([enclose(registry, create), enclose(registry, line)])
    watch = DeletionWatch(log, registry.prefixes, forget)
    watch.start()
    await asyncio.sleep(0)
    await log.delete_stream(f"order-{order}")
    assert await asyncio.wait_for(forgotten.get(), 10) == f"order-{order}"
    [outcome] = await host.handle([enclose(registry, line)])
    assert isinstance(outcome, NotFound)
    [outcome] = await host.handle([enclose(registry, create)])
    assert isinstance(outcome, Done)
    assert outcome.revision == 2
    await watch.stop()


async def test_deletions_are_followed_on_in_a_log_that_was_restored_to_an_earlier_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deletion_watch, "RETRY", 0.0)
    registry, log, forgotten = Registry.load("domain"), MemoryLog(), asyncio.Queue[str]()
    host, orders = Host(registry, log, "test"), [uuid4() for _ in range(5)]
    creating = [CreateOrder(order_id=each, customer_id="ada") for each in orders]
    await host.handle([enclose(registry, each) for each in creating])
    watch = DeletionWatch(log, registry.prefixes, forgotten.put)
    watch.start()
    await log.delete_stream(f"order-{orders[4]}")
    assert await asyncio.wait_for(forgotten.get(), 10) == f"order-{orders[4]}"
    log.down = True
    log._announce()
    await asyncio.sleep(0)
    del log._all[1:]
    log.down = False
    await log.delete_stream(f"order-{orders[0]}")
    assert await asyncio.wait_for(forgotten.get(), 10) == f"order-{orders[0]}"
    await watch.stop()


async def test_a_stream_that_is_deleted_under_a_commit_is_folded_after_it() -> None:
    registry, log = Registry.load("domain"), MemoryLog()
    host, order = Host(registry, log, "test"), uuid4()
    create = CreateOrder(order_id=order, customer_id="ada")
    line = AddLine(order_id=order, sku="tea", quantity=1, unit_price_cents=450)
    creating = asyncio.create_task(host.handle([enclose(registry, create)]))
    await asyncio.sleep(0)
    host.forget(f"order-{order}")
    assert [type(outcome) for outcome in await creating] == [Done]
    assert host.status()["aggregates"] == 0
    [outcome] = await host.handle([enclose(registry, line)])
    assert isinstance(outcome, Done)
