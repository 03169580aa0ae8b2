"""Competing consumers of a real group, of which one is killed, or of another release."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from eventstore.kurrentdb.log import EventLog
from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, RawRecord
from examples.shop.baskets import BasketBought, ItemPut
from projections.competing import consumer as consumer_module
from projections.competing.backfill import Backfill
from projections.competing.consumer import Consumer, group_of
from projections.competing.deduplication import Deduplication
from projections.competing.locks import lock_table
from projections.errors import Fenced
from projections.postgres import generations, schema
from projections.stores import runner
from projections.stores.rebuild import enough
from rayfold import Event, ViewDefinition
from tests.conftest import ROOT
from tests.contract.stores.subjects import Here
from tests.integration.projections.competing import (
    BASKETS,
    DEADLINE,
    DEMAND,
    SHOP,
    database,
    plainly,
    rows_in,
)
from tests.integration.projections.test_sql_projection import history_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once."""
    monkeypatch.setattr(runner, "RETRY", 0.01)


async def write(log: Any, events: Sequence[Event], revisions: dict[str, int]) -> int:
    """Appends, a stream at a time; gives the position of the last."""
    position = 0
    by_stream: dict[str, list[Event]] = {}
    for event in events:
        by_stream.setdefault(f"basket-{event.basket_id}", []).append(event)  # type: ignore[attr-defined]
    for stream, those in by_stream.items():
        records = [
            NewRecord(
                type(event).__rayfold__.name, event.model_dump_json().encode(), {}, str(uuid4())
            )
            for event in those
        ]
        [done] = await log.append([StreamAppend(stream, revisions.get(stream), records)])
        revisions[stream] = revisions.get(stream, -1) + len(records)
        position = max(position, done.position)
    return position


@asynccontextmanager
async def consuming(*consumers: Any) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(each.run()) for each in consumers]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def reached(consumer: Consumer, position: int) -> None:
    """As the actor does it."""
    async with asyncio.timeout(DEADLINE):
        while await consumer.look() < position:
            await consumer.progress.reached(position, 0.02)


def purchases_of(name: str, many: int) -> list[Event]:
    events: list[Event] = []
    for number in range(many):
        sku = ["tea", "jam", "cake"][number % 3]
        events.append(ItemPut(basket_id=f"{name}{number % 7}", sku=sku, quantity=1 + number % 4))
    return [*events, BasketBought(basket_id=f"{name}0", day=date(2026, 11, 24))]


@pytest.mark.parametrize("view", [BASKETS, DEMAND])
async def test_two_consumers_of_a_real_group_of_which_one_is_killed(
    postgres: str, eventstore: str, view: ViewDefinition
) -> None:
    log, groups = EventLog(eventstore), PersistentSubscriptions(eventstore)
    revisions: dict[str, int] = {}
    name = uuid4().hex[:8] + "-"
    async with database(postgres, view) as pool:
        await write(log, purchases_of(name, 300), revisions)
        await groups.create(group_of(view), SHOP.prefixes, 0)
        here = Consumer(SHOP, log, groups, postgres, view)
        arguments = [eventstore, postgres, view.name]
        command = [sys.executable, "-m", "tests.integration.projections.one_consumer", *arguments]
        other = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        try:
            # Alone at first, so that it is sure to have events in hand when it is killed.
            assert other.stdout is not None
            assert await other.stdout.readline() == b"consuming\n"
            async with consuming(here):
                await asyncio.wait_for(here.joined.wait(), DEADLINE)
                writing = asyncio.create_task(write(log, purchases_of(name + "x", 400), revisions))
                await other.stdout.readline()  # it has committed more
                other.send_signal(signal.SIGKILL)
                end = await writing
                end = max(end, await write(log, purchases_of(name + "y", 100), revisions))
                await reached(here, end)
                history = [raw async for raw in log.read_all(SHOP.prefixes)]
                assert await rows_in(pool, view) == plainly(SHOP, view, history)
                assert (await here.status())["ready"]
        finally:
            with suppress(ProcessLookupError):
                other.kill()
            await other.wait()
    await groups.close()
    await log.close()


async def test_the_position_of_a_consumer_is_never_ahead_of_its_table(
    postgres: str, eventstore: str
) -> None:
    """A table that is built from a restored log may end before the one that it replaces."""
    log, groups = EventLog(eventstore), PersistentSubscriptions(eventstore)
    end = await write(log, purchases_of(uuid4().hex, 20), {})
    async with database(postgres, BASKETS) as pool:
        await groups.create(group_of(BASKETS), SHOP.prefixes, 0)
        consumer = Consumer(SHOP, log, groups, postgres, BASKETS)
        async with consuming(consumer):
            await reached(consumer, end)
            consumer.progress.advance(end + 1_000_000)
            assert end <= await consumer.look() < end + 1_000_000
            assert consumer.progress.position < end + 1_000_000
            further = await write(log, purchases_of(uuid4().hex, 5), {})
            await reached(consumer, further)
            checkpoint = await pool.fetchval("SELECT max(position) FROM rayfold_checkpoint")
            assert further <= checkpoint < end + 1_000_000
    await groups.close()
    await log.close()


async def test_a_consumer_with_an_empty_database_gets_all_events_again(
    postgres: str, eventstore: str
) -> None:
    log, groups = EventLog(eventstore), PersistentSubscriptions(eventstore)
    end = await write(log, purchases_of(uuid4().hex, 20), {})
    for _ in range(2):
        async with database(postgres, DEMAND) as pool:  # an empty one each time
            await groups.create(group_of(DEMAND), SHOP.prefixes, 0)
            consumer = Consumer(SHOP, log, groups, postgres, DEMAND)
            async with consuming(consumer):
                await reached(consumer, end)
                history = [raw async for raw in log.read_all(SHOP.prefixes)]
                assert await rows_in(pool, DEMAND) == plainly(SHOP, DEMAND, history)
    await groups.close()
    await log.close()


async def test_a_missing_event_that_does_not_come_is_read_from_the_log(
    postgres: str, eventstore: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "PAUSE", 0.001)
    log, groups = EventLog(eventstore), PersistentSubscriptions(eventstore)
    revisions: dict[str, int] = {}
    before = await write(log, purchases_of("gap-" + uuid4().hex, 10), revisions)
    async with database(postgres, DEMAND) as pool:
        # The group begins behind events that the table has never seen.
        await groups.create(group_of(DEMAND), SHOP.prefixes, before)
        streams = {stream.removeprefix("basket-") for stream in revisions}
        more = [ItemPut(basket_id=each, sku="jam", quantity=1) for each in streams]
        end = await write(log, more, revisions)
        consumer = Consumer(SHOP, log, groups, postgres, DEMAND)
        async with consuming(consumer):
            await reached(consumer, end)
        ours = [raw async for raw in log.read_all(SHOP.prefixes) if raw.stream in revisions]
        found = {key: json.loads(row) for key, row in (await rows_in(pool, DEMAND)).items()}
        expected = {k: json.loads(row) for k, row in plainly(SHOP, DEMAND, ours).items()}
        assert found == expected
        assert consumer.sent_back > 0
    await groups.close()
    await log.close()


async def test_a_new_generation_takes_over_while_consumers_work(
    postgres: str, eventstore: str
) -> None:
    log, groups = EventLog(eventstore), PersistentSubscriptions(eventstore)
    revisions: dict[str, int] = {}
    name = uuid4().hex
    async with database(postgres, DEMAND) as pool:
        await write(log, purchases_of(name, 50), revisions)
        await groups.create(group_of(DEMAND), SHOP.prefixes, 0)
        consumers = [Consumer(SHOP, log, groups, postgres, DEMAND) for _ in "ab"]
        async with consuming(*consumers):
            stop = asyncio.Event()

            async def keep_writing() -> int:
                end = number = 0
                while not stop.is_set():
                    end = await write(log, purchases_of(f"{name}{number % 5}", 10), revisions)
                    number += 1
                return end

            writing = asyncio.create_task(keep_writing())
            for _ in range(2):
                await _switch(postgres, log)
            stop.set()
            end = await writing
            for each in consumers:
                await reached(each, end)
        history = [raw async for raw in log.read_all(SHOP.prefixes)]
        assert await rows_in(pool, DEMAND) == plainly(SHOP, DEMAND, history)
        assert await pool.fetchval("SELECT count(*) FROM pg_tables WHERE tablename ~ '__'") == 0
    await groups.close()
    await log.close()


async def test_consumers_of_the_old_release_do_not_write_the_new_table_and_know_its_position(
    postgres: str, eventstore: str
) -> None:
    log, groups = EventLog(eventstore), PersistentSubscriptions(eventstore)
    revisions: dict[str, int] = {}
    name = uuid4().hex
    newer = replace(DEMAND, version=DEMAND.version + 1)
    async with database(postgres, DEMAND) as pool:
        await write(log, purchases_of(name, 20), revisions)
        await groups.create(group_of(DEMAND), SHOP.prefixes, 0)
        old, new = (Consumer(SHOP, log, groups, postgres, each) for each in (DEMAND, newer))
        async with consuming(old):
            await reached(old, await write(log, purchases_of(name, 20), revisions))
            # As the other release does it, when it is at the end of the log.
            async with pool.acquire() as connection, connection.transaction():
                await lock_table(connection, schema.table_of(newer))
                await generations.become(connection, schema.live(newer))
            before = old.runner.events
            async with consuming(new):
                end = await write(log, purchases_of(name, 40), revisions)
                await reached(new, end)
                await reached(old, end)
                assert old.runner.events == before
                assert (await old.status())["error"] == "another release has built 'demand'"
                assert "error" not in await new.status()
            with pytest.raises(Fenced, match="another release has built"):
                await Deduplication(SHOP, log, DEMAND).apply(pool, [await _last(log)])
            async with pool.acquire() as connection:  # and back again
                await generations.become(connection, schema.live(DEMAND))
            await reached(old, await write(log, purchases_of(name, 5), revisions))
            assert old.runner.events > before
        history = [raw async for raw in log.read_all(SHOP.prefixes)]
        assert await rows_in(pool, DEMAND) == plainly(SHOP, DEMAND, history)
    await groups.close()
    await log.close()


async def test_what_a_builder_commits_during_the_switch_counts_once(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows were in the new table, but the stream's revision was not."""
    monkeypatch.setattr(generations, "AGAIN", 0.01)
    history, name = history_of([ItemPut(basket_id="a", sku="tea", quantity=1)]), schema.live(DEMAND)
    async with database(postgres, DEMAND) as pool:
        connection = await asyncpg.connect(postgres)
        table = await schema.begin_generation(connection, DEMAND)
        builder = Deduplication(SHOP, MemoryLog(), DEMAND, table)
        stored, let_go, save = asyncio.Event(), asyncio.Event(), builder._save_applied

        async def later(*given: Any) -> None:
            stored.set()
            await let_go.wait()
            await save(*given)

        async def enough_for_all(position: int) -> int:
            return 0

        monkeypatch.setattr(builder, "_save_applied", later)
        applying = asyncio.create_task(builder.apply(pool, history, whole=True))
        switching = None
        try:
            await asyncio.wait_for(stored.wait(), DEADLINE)
            switching = asyncio.create_task(
                generations.switch(connection, name, table, enough_for_all)
            )
            waits = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted"
            async with asyncio.timeout(DEADLINE):
                while not await pool.fetchval(waits, connection.get_server_pid()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            let_go.set()
            await applying
            if switching is not None:
                await switching
        await Deduplication(SHOP, MemoryLog(), DEMAND).apply(pool, history)
        assert await pool.fetchval("SELECT quantity FROM demand WHERE _key = 'tea'") == 1
        await connection.close()


async def _last(log: EventLog) -> RawRecord:
    return [raw async for raw in log.read_all(SHOP.prefixes)][-1]


async def _switch(dsn: str, log: EventLog) -> None:
    """Builds and switches, as `CompetingSupervisor.rebuild` does."""
    connection = await asyncpg.connect(dsn)
    table = await schema.begin_generation(connection, DEMAND)
    builder = Backfill(SHOP, log, dsn, DEMAND, table)

    async def hold() -> int:
        await lock_table(connection, schema.table_of(DEMAND))
        return await log.end_position(SHOP.prefixes)

    try:
        async with consuming(builder):
            await asyncio.wait_for(builder.runner.ready.wait(), DEADLINE)
            await generations.switch(
                connection,
                schema.live(DEMAND),
                table,
                partial(enough, Here(builder.progress), None),
                hold=hold,
            )
    finally:
        await generations.discard(connection, table)
        await connection.close()
