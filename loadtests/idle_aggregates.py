"""How much memory an idle sharded aggregate takes, and that passivation frees it.

python -m loadtests.idle_aggregates [--aggregates 100000]

One host in this process on a log in memory that keeps nothing: what grows is the host.
The state's own size is measured by holding as many states alone.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psutil

from actors.envelope import enclose
from actors.host.host import Host
from actors.host.limits import HostLimits
from domain.orders.commands import AddLine, CreateOrder
from domain.orders.order import Order
from eventstore.memory import MemoryLog
from eventstore.port import Appended, AppendResult, JointAppend, StreamAppend
from rayfold import Registry


class Forgetful(MemoryLog):
    """Acknowledges everything and keeps nothing."""

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        return [Appended(1) for _ in appends]


def resident() -> int:
    """Return the memory of this process in bytes, after the allocator has returned what it can."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss


async def measure(aggregates: int) -> None:
    """Print the bytes per aggregate."""
    registry = Registry.load("domain")
    host = Host(
        registry,
        Forgetful(),
        "memory",
        replace(HostLimits(), idle_timeout=0, cached_aggregates=10**9),
    )

    def life() -> tuple[Any, ...]:
        order = uuid4()
        lines = (
            AddLine(order_id=order, sku=f"sku-{n}", quantity=1, unit_price_cents=100)
            for n in range(3)
        )
        return (CreateOrder(order_id=order, customer_id="ada"), *lines)

    await host.handle([enclose(registry, command) for command in life()])
    before = resident()
    for _ in range(aggregates // 100):
        batch = [enclose(registry, command) for _ in range(100) for command in life()]
        await host.handle(batch)
    full = resident()
    await host.passivate()
    empty = resident()

    def state() -> Any:
        folded = Order.initial
        for command in life():
            folded = Order.fold(Order.decide(folded, command), folded)
        return folded

    base = resident()
    states = [state() for _ in range(aggregates)]
    own = (resident() - base) / len(states)
    each = (full - before) / aggregates
    print(f"aggregates           {aggregates:>10,}")
    print(f"bytes each           {each:>10,.0f}")
    print(f"of that its state    {own:>10,.0f}")
    print(f"beside its state     {each - own:>10,.0f}   (at most 4,096)")
    print(f"given back           {(full - empty) / (full - before):>10.0%}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aggregates", type=int, default=100_000)
    asyncio.run(measure(parser.parse_args().aggregates))


if __name__ == "__main__":
    main()
