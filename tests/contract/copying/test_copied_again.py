"""A copy that is continued: after an interruption, and after more was written to its source."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.local import LocalRuntime
from deploy.copying.copy import CopyRefused
from deploy.errors import StartError
from deploy.stack.owning import own_store_id
from domain.inventory.stock import ReceiveStock
from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.identity import is_unfinished_copy
from eventstore.kurrentdb.whole_log import WholeLog, WholeRecord
from projections.operations.verification import fold_afresh
from rayfold import Registry
from tests.contract.copying.copies import (
    also_older,
    copied,
    everything,
    names_the_same_events,
    new,
    stream_of,
    written,
)
from tests.contract.processes.stages import Stage, named, until, waits_for


async def test_streams_deleted_after_the_first_copy_are_deleted_by_the_second(
    source: WholeLog, target: WholeLog
) -> None:
    for stream in ("gone", "cut", "never", "again"):
        await written(source, f"order-{stream}", new(), new(), new())
    await copied(source, target)
    await source.delete_stream("order-gone")
    await source.delete_stream("order-never", tombstone=True)
    await source.delete_stream("order-again")
    await written(source, "order-again", new())
    await source.truncate("order-cut", 2)
    await written(source, "order-cut", new())
    for _ in range(2):
        told = await copied(source, target)
        assert told.records == 3
        assert await stream_of(target, "order-gone") == []
        assert [raw.revision for raw in await stream_of(target, "order-cut")] == [2, 3]
        assert [raw.revision for raw in await stream_of(target, "order-again")] == [3]
        with pytest.raises(StreamTombstoned):
            await stream_of(target, "order-never")
    assert told.found == 3
    await written(source, "order-gone", new())  # begins again
    assert (await copied(source, target)).records == 4
    assert [raw.revision for raw in await stream_of(target, "order-gone")] == [3]


@also_older
async def test_a_stream_recreated_after_the_first_copy_is_folded_as_in_the_source(
    source: WholeLog, target: WholeLog, registry: Registry
) -> None:
    """The target had it without its deletion, which readers of `$all` have to see."""

    async def received(sku: str, *quantities: int) -> None:
        writes = LocalRuntime(registry, source)  # knows no stream that was deleted meanwhile
        for quantity in quantities:
            await writes.send(ReceiveStock(sku=sku, quantity=quantity))

    async def on_hand(log: WholeLog) -> dict[str, int]:
        levels = (await fold_afresh(registry, log, await log.last_position()))["stock-levels"]
        return {sku: json.loads(row.json())["on_hand"] for sku, row in levels.rows.items()}

    for sku in ("tea", "cup", "mug"):
        await received(sku, 7)
    await copied(source, target)
    await received("cup", 5)  # the target never gets that one
    for sku in ("tea", "cup"):
        await source.delete_stream(f"stock-{sku}")
        await received(sku, 1)
    for _ in range(2):
        told = await copied(source, target)
        assert await on_hand(source) == await on_hand(target) == {"tea": 1, "cup": 1, "mug": 7}
    assert told.found == told.records == 3
    await source.delete_stream("stock-tea")
    await received("tea", 2)
    await copied(source, target)
    assert await on_hand(source) == await on_hand(target) == {"tea": 2, "cup": 1, "mug": 7}


async def test_a_stream_recreated_during_the_first_copy_requires_another_target(
    source: WholeLog, target: WholeLog
) -> None:
    await written(source, "order-1", new(), new())
    await copied(source, target)
    await source.delete_stream("order-1")
    await written(source, "order-1", new())
    # The first one found all three, and no settings when it looked at those.
    await target.append_whole([(await everything(source))[-1]])
    with pytest.raises(CopyRefused, match="order-1 was deleted in the source"):
        await copied(source, target)


@also_older
async def test_an_interrupted_copy_is_resumed(
    source: WholeLog,
    target: WholeLog,
    target_uri: str,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    definition = named("broken_off")
    async with Stage(source, registry, definition) as stage:
        tea = await stage.stock(100)
        orders = [await stage.order(tea) for _ in range(10)]
        for order in orders:
            await until(lambda order=order: waits_for(stage, order) == 1)
    append, calls = WholeLog.append_whole, 0

    async def broken_off(log: WholeLog, records: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 3:
            return await append(log, records)
        if calls % 2:
            await append(log, records)  # and the answer is lost
        raise StoreUnavailable("it has died")

    monkeypatch.setattr(WholeLog, "append_whole", broken_off)
    broken = 0
    while True:
        try:
            told = await copied(source, target)
        except StoreUnavailable:
            broken += 1
            with pytest.raises(StartError, match="an unfinished copy"):
                await own_store_id(target_uri)
        else:
            break
    assert broken > 1
    assert told.found > 0
    await names_the_same_events(source, target)
    monkeypatch.undo()
    again = await copied(source, target)
    assert (again.digest, again.records, again.found) == (told.digest, told.records, told.records)


async def test_a_log_that_is_being_written_to_is_copied_in_several_runs(
    source: WholeLog, target: WholeLog, target_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(source, "order-1", new())
    append = WholeLog.append_whole

    async def meanwhile(log: WholeLog, records: Any) -> Any:
        monkeypatch.undo()
        await written(source, "order-2", new())
        return await append(log, records)

    monkeypatch.setattr(WholeLog, "append_whole", meanwhile)
    assert (await copied(source, target)).went_on
    with pytest.raises(StartError, match="an unfinished copy"):
        await own_store_id(target_uri)
    await written(source, "order-1", new())
    last = (await written(source, "order-3", new())).position
    told = await copied(source, target)
    assert (told.records, told.position, told.went_on) == (4, last, False)
    assert [raw.revision for raw in await stream_of(target, "order-1")] == [0, 1]

    # It is unfinished again from the moment that a next run looks at what it has.
    read = WholeLog.read_whole
    looked: list[bool] = []

    async def looked_into(log: WholeLog, *args: Any, **kwargs: Any) -> AsyncIterator[WholeRecord]:
        if log is target:
            looked.append(await is_unfinished_copy(target))
        async for record in read(log, *args, **kwargs):
            yield record

    monkeypatch.setattr(WholeLog, "read_whole", looked_into)
    await copied(source, target)
    assert set(looked) == {True}

    # Of a source that is never silent it may stay behind.
    await written(source, "order-1", new())
    monkeypatch.setattr(WholeLog, "append_whole", meanwhile)
    assert (await copied(source, target, up_to_now=True)).went_on
    assert await own_store_id(target_uri)
    assert len(await stream_of(target, "order-1")) == 3


async def test_a_refused_run_leaves_a_finished_copy_finished(
    source: WholeLog, target: WholeLog, target_uri: str
) -> None:
    await written(source, "order-1", new())
    await copied(source, target)
    await written(target, "order-2", new())  # as if it were the copy of another source
    with pytest.raises(CopyRefused, match="the target has more than the source"):
        await copied(source, target)
    assert await own_store_id(target_uri)


async def test_a_run_cancelled_before_it_writes_leaves_a_finished_copy_finished(
    source: WholeLog, target: WholeLog, target_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(source, "order-1", new())
    await copied(source, target)
    read, looked = WholeLog.read_whole, asyncio.Event()

    async def silent(log: WholeLog, *args: Any, **kwargs: Any) -> AsyncIterator[WholeRecord]:
        async for record in read(log, *args, **kwargs):
            looked.set()
            await asyncio.Event().wait()
            yield record

    monkeypatch.setattr(WholeLog, "read_whole", silent)
    running = asyncio.create_task(copied(source, target))
    async with asyncio.timeout(60):
        await looked.wait()
    assert await is_unfinished_copy(target)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await own_store_id(target_uri)
