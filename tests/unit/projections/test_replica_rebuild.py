"""A view in memory is folded again from the streams that concern it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import uuid4

from domain.inventory.stock import StockReceived
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, RawRecord
from loadtests.order_streams import order_stream
from projections.memory.replica import Replica
from rayfold import Registry

DEADLINE = 60.0


class Counting(MemoryLog):
    """Counts the records that are read of `$all`."""

    read = 0

    async def read_all(
        self, prefixes: Sequence[str], **where: Any
    ) -> AsyncGenerator[RawRecord, None]:
        async for raw in super().read_all(prefixes, **where):
            self.read += 1
            yield raw


async def test_a_rebuild_reads_what_concerns_the_view_and_not_the_whole_log() -> None:
    log = Counting()
    received = StockReceived.__rayfold__
    stock = NewRecord(
        received.name, received.encode(StockReceived(sku="tea", quantity=7)), {}, str(uuid4())
    )
    await log.append([StreamAppend("stock-tea", None, [stock])])
    for _ in range(50):
        await log.append([order_stream(3, placed=False)[1]])
    replica = Replica(Registry.load("domain"), ["stock-levels"], log)
    following = asyncio.create_task(replica.run())
    await asyncio.wait_for(replica.caught_up.wait(), DEADLINE)
    log.read = 0
    before = list(replica.rows("stock-levels"))
    await replica.rebuild("stock-levels")
    following.cancel()
    await asyncio.wait([following])
    assert log.read == 1
    assert list(replica.rows("stock-levels")) == before
    assert len(before) == 1
