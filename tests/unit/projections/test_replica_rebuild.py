"""A view in memory is folded again from the streams that concern it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import pytest

from domain.inventory.stock import StockReceived
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, RawRecord
from loadtests.order_streams import order_stream
from projections.errors import WouldPark
from projections.memory.replica import Replica
from projections.row_query import RowQuery, RowResult
from rayfold import OnPoison, Registry
from tests.contract.stores.shelf import Painted, Put, Shelf, registry_for, write

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


@pytest.fixture
async def shelf(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replica]:
    """A replica that has three things, of which one cannot be painted black."""
    monkeypatch.setattr(Shelf, "broken", {"black"})
    log = MemoryLog()
    replica = Replica(registry_for("memory"), ["shelf"], log)
    following = asyncio.create_task(replica.run())
    for key, colour in (("a", "black"), ("b", "red"), ("c", "blue")):
        end = await write(log, Put(id=key, name="tea"), Painted(id=key, colour=colour))
    assert await replica.progress.reached(end, DEADLINE)
    yield replica
    following.cancel()
    await asyncio.wait([following])


def painted(replica: Replica, key: str) -> int:
    [found] = replica.answer([RowQuery("shelf", key, 0, {}, 0, None)])
    assert isinstance(found, RowResult)
    return int(json.loads(found.body or b"{}")["painted"])


async def test_a_rebuild_that_parks_served_keys_takes_over_only_if_accepted(
    shelf: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shelf, "broken", {"black", "red"})
    with pytest.raises(WouldPark, match="one key that serves would be parked, the first b at"):
        await shelf.rebuild("shelf")
    assert painted(shelf, "b") == 1
    assert [each.key for each in shelf.parked()] == ["a"]
    await shelf.rebuild("shelf", accept_parked=True)
    assert painted(shelf, "b") == 0
    assert [each.key for each in shelf.parked()] == ["a", "b"]
    await shelf.rebuild("shelf")  # it is no worse than what serves


async def test_a_rebuild_that_stops_where_the_old_view_went_on_does_not_take_over(
    shelf: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = shelf.tables["shelf"].view
    object.__setattr__(view, "on_poison", OnPoison.STOP)
    monkeypatch.setattr(Shelf, "broken", {"blue"})
    with pytest.raises(WouldPark, match="the first c at"):
        await shelf.rebuild("shelf")
    assert painted(shelf, "c") == 1
