"""Competing consumers: in any order, with any repeats, each event counts once."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Annotated, Any, ClassVar
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from eventstore.deletions import with_deletions
from eventstore.kurrentdb.log import EventLog
from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, RawRecord, recorded
from examples.shop.baskets import BasketBought, ItemPut
from projections import discarded_events as discards
from projections.competing import consumer as consumer_module
from projections.competing.backfill import Backfill
from projections.competing.consumer import Consumer, group_of
from projections.competing.deduplication import Deduplication
from projections.competing.locks import lock, lock_table
from projections.errors import Fenced, UnknownTarget
from projections.parked_pages import BEFORE_ALL, Asked, Place, in_order, place_of
from projections.poison import Parked
from projections.postgres import generations, parked_events, schema
from projections.postgres.rows import Rows
from projections.stores import runner
from projections.stores.rebuild import enough
from rayfold import Event, Registry, VersionedRow, View, ViewDefinition, document, key_text, on
from rayfold.keys import printable
from tests.conftest import ROOT
from tests.contract.stores.subjects import Here
from tests.integration.projections import small
from tests.integration.projections.small import Added, add
from tests.integration.projections.test_sql_projection import history_of, items, purchases

DEADLINE = 60.0
SHOP = Registry.load("examples.shop")
BASKETS = SHOP.views["baskets"]
DEMAND = SHOP.views["demand"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once."""
    monkeypatch.setattr(runner, "RETRY", 0.01)


@asynccontextmanager
async def database(dsn: str, *views: ViewDefinition, fresh: bool = True) -> AsyncIterator[Any]:
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=8)
    async with pool.acquire() as connection:
        if fresh:
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await schema.prepare(connection, views, {view.name: 1 for view in views})
    yield pool
    pool.terminate()


async def rows_in(pool: Any, view: ViewDefinition) -> dict[str, bytes]:
    rows = Rows(view)
    records = await pool.fetch(f'SELECT {rows.codec.select_list} FROM "{rows.table}" t')
    return {each["_key"]: document(rows.codec.decode(each)) for each in records}


def plainly(
    registry: Registry, view: ViewDefinition, history: Sequence[RawRecord]
) -> dict[str, bytes]:
    rows: dict[str, VersionedRow] = {}
    for raw in history:
        for event in recorded(registry, raw):
            for key in view.keys_of(event.event):
                row = view.fold(rows.get(key_text(key)), event, key)
                if row is not None:
                    rows[key_text(key)] = row
    return {key: document(entry) for key, entry in rows.items()}


async def test_streams_of_two_tenants_come_to_two_rows_and_one_of_none_to_no_row(
    postgres: str,
) -> None:
    registry = Registry([small], tenants=True)
    view = replace(registry.views["totals"], delivery="competing", stores=("postgres",))
    history = [
        RawRecord("Added", data, b"{}", f"counter-{whose}a", revision, 7 * (at + 1), 0)
        for at, (whose, revision) in enumerate(
            [("acme:", 0), ("globex:", 0), ("", 0), ("acme:", 1)]
        )
        for data in [Added(counter="a", number=at + 1).model_dump_json().encode()]
    ]
    async with database(postgres, view) as pool:
        applier = Deduplication(registry, MemoryLog(), view)
        for raw in (*history, *history[::-1]):
            assert await applier.apply(pool, [raw]) == []
        rows = await rows_in(pool, view)
        totals = {key: json.loads(row)["total"] for key, row in rows.items()}
        assert totals == {"acme:a": 1 + 4, "globex:a": 2}
        assert await pool.fetchval("SELECT total FROM totals WHERE _tenant = 'globex'") == 2
        [parked] = await applier.parked(pool)
        assert parked.stream == "counter-a"
        assert "of no tenant" in parked.error


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    events=st.lists(items | purchases, max_size=25),
    seed=st.integers(0, 2**32),
    repeats=st.integers(0, 20),
    appliers=st.integers(1, 3),
)
def test_any_order_with_any_repeats_gives_what_the_plain_fold_gives(
    postgres: str, events: list[Event], seed: int, repeats: int, appliers: int
) -> None:
    history = history_of(events)
    chance = random.Random(seed)

    async def deliver() -> None:
        async with database(postgres, BASKETS, DEMAND) as pool:
            for view in (BASKETS, DEMAND):
                queue = [*history, *(chance.choices(history, k=repeats) if history else [])]
                chance.shuffle(queue)

                async def consume(applier: Deduplication, queue: list[RawRecord] = queue) -> None:
                    while queue:
                        taken = [queue.pop() for _ in range(min(chance.randint(1, 6), len(queue)))]
                        missing = await applier.apply(pool, taken)
                        queue[:0] = missing  # sent back: they come again, after others

                store = MemoryLog()
                each = [Deduplication(SHOP, store, view) for _ in range(appliers)]
                await asyncio.gather(*map(consume, each))
                # Whoever ended first may have left a gap that another has filled meanwhile.
                assert await each[0].apply(pool, history) == []
                assert await rows_in(pool, view) == plainly(SHOP, view, history)

    asyncio.run(deliver())


async def test_an_event_waits_for_the_one_before_it_in_its_stream(postgres: str) -> None:
    put = [ItemPut(basket_id="a", sku="tea", quantity=n) for n in (1, 2, 4)]
    first, second, third = history_of(put)
    async with database(postgres, DEMAND) as pool:
        applier = Deduplication(SHOP, MemoryLog(), DEMAND)
        assert await applier.apply(pool, [third, second]) == [second, third]
        assert await rows_in(pool, DEMAND) == {}
        assert await applier.apply(pool, [first, third]) == [third]
        assert await applier.apply(pool, [third, second, first]) == []
        assert json.loads((await rows_in(pool, DEMAND))["tea"])["quantity"] == 7


class Sums(View, name="sums", key="counter", stores=("postgres",), delivery="competing"):
    """A total for each counter; breaks on `broken` numbers, exits on even ones of these.

    Postgres breaks on others.
    """

    broken: ClassVar[set[int]] = set()
    counter: str
    total: Annotated[int, Field(ge=-(2**62), le=2**62)] = 0  # a bigint

    @staticmethod
    @on(Added)
    def added(row: Sums, event: Added) -> Sums:
        if event.number in Sums.broken:
            mistake = ValueError if event.number % 2 else SystemExit
            raise mistake(f"cannot add {event.number}")
        return row.replace(total=row.total + event.number)


SMALL = Registry([small])
SUMS = Sums.__rayfold__
SMALL.views["sums"] = SUMS


async def test_a_page_of_what_is_parked_and_a_batch_go_by_an_index_of_their_own(
    postgres: str,
) -> None:
    many = [Parked("sums", f"c{at}", f"counter-c{at}", 0, at, "no") for at in range(2_000)]
    async with database(postgres, SUMS) as pool, pool.acquire() as connection:
        await parked_events.save(connection, {"sums": "sums"}, many)
        await connection.execute("ANALYZE rayfold_parked")
        keys = f"'{{{','.join(each.key for each in many[:100])}}}'"
        for statement, index, values in (
            (parked_events._PAGE, "rayfold_parked_order", "'sums', 1000, 11"),
            (parked_events._AMONG, "rayfold_parked_place", f"'sums', {keys}, {keys}"),
        ):
            await connection.execute(f"PREPARE asked AS {statement}")
            plan = [each[0] for each in await connection.fetch(f"EXPLAIN EXECUTE asked({values})")]
            await connection.execute("DEALLOCATE asked")
            read = [each for each in plan if "Scan" in each and "Function" not in each]
            assert len(read) >= 2
            assert all(index in each or "Bitmap Heap" in each for each in read), plan


async def test_however_many_rows_events_concern_they_are_locked(postgres: str) -> None:
    # Postgres has room for some ten thousand locks of all sessions.
    many = [("row", str(number)) for number in range(50_000)]
    few = many[:1]

    async def locked(connection: Any, names: list[tuple[str, str]]) -> None:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '20ms'")
            await lock(connection, "sums", names)

    async with database(postgres, SUMS) as pool, pool.acquire() as one, pool.acquire() as other:
        for ours, theirs in ((many, few), (few, many)):
            async with one.transaction():
                await lock(one, "sums", ours)
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await locked(other, theirs)
            await locked(other, theirs)


async def test_of_much_that_is_parked_a_batch_reads_what_concerns_it(postgres: str) -> None:
    log = MemoryLog()
    for counter in ("k7", "k8", "fresh"):
        await add(log, counter, 1)
    await log.append(
        [StreamAppend("counter-whole", None, [NewRecord("Added", b"{}", {}, str(uuid4()))])]
    )
    everything = [raw async for raw in log.read_all(["counter-"])]
    read = (
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables"
        " WHERE relname = 'rayfold_parked'"
    )
    async with database(postgres, SUMS) as pool:
        await pool.execute(
            "INSERT INTO rayfold_parked SELECT 'sums', 'k' || n, 'counter-k' || n, 0, n, 'broke'"
            " FROM generate_series(1, 3000) n"
        )
        applier = Deduplication(SMALL, log, SUMS)
        await pool.execute("SELECT pg_stat_force_next_flush()")
        before = await pool.fetchval(read)
        for raw in everything:
            assert await applier.apply(pool, [raw]) == []
        assert await applier.replay(pool, "k7")
        with pytest.raises(UnknownTarget):
            await applier.replay(pool, "k7")
        with pytest.raises(UnknownTarget):
            await applier.replay(pool, "")  # a stream has none
        await pool.execute("SELECT pg_stat_force_next_flush()")
        assert await pool.fetchval(read) - before < 100
        assert set(await rows_in(pool, SUMS)) == {"fresh", "k7"}
        number, _ = await applier.first_parked(pool)
        assert number == 3000  # one is not any more, and a stream is


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_of_what_is_parked_have_everything_once_also_of_one_event(
    postgres: str, limit: int
) -> None:
    async with database(postgres, SUMS) as pool:
        keys = ["\u00e4", "A", "a", 'a "', "b", "\n", "Z"]  # Postgres may order them in another way
        kept = [Parked("sums", key, f"counter-{at}", 0, at, "no") for at in (3, 1) for key in keys]
        kept += [Parked("sums", "", f"counter-{at}", 0, at, "no") for at in (4, 2)]
        await parked_events.save(pool, {"sums": "sums"}, kept)
        applier = Deduplication(SMALL, MemoryLog(), SUMS)
        found: list[Parked] = []
        after: Place = BEFORE_ALL
        while True:
            asked = Asked("", "", after, limit)
            page = asked.page(
                {"store": "postgres", **each._asdict()}
                for each in asked.of(await applier.parked(pool, asked))
            )
            found += [Parked(**{name: each[name] for name in Parked._fields}) for each in page]
            if not page:
                break
            assert len(page) <= limit
            after = place_of(page[-1])
        assert found == in_order(kept)
        # What stands before a page, and far behind it, is not loaded.
        first = Asked("", "", BEFORE_ALL, 1)
        assert {each.position for each in await applier.parked(pool, first)} == {1}
        # Nor is what is under another key, or in another stream.
        for each in kept:
            for name in {each.key, printable(each.key), each.stream} - {""}:
                asked = Asked(key=name)
                mine = await applier.parked(pool, asked)
                assert asked.of(mine) == mine == asked.of(in_order(kept))
        names = Asked(among=frozenset({kept[0].key, "counter-2"}))
        some = [each for each in kept if each.key == kept[0].key or each == kept[-1]]
        assert await applier.parked(pool, names) == in_order(some)


@pytest.mark.parametrize("poison", [13, 14, 2**70])
async def test_a_poison_event_parks_its_row_and_no_other(
    postgres: str, poison: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sums, "broken", {13, 14})
    by_fold = poison in Sums.broken
    log = MemoryLog()
    await add(log, "a", 1, poison, 2)
    await add(log, "b", 5)
    everything = [raw async for raw in log.read_all(["counter-"])]
    async with database(postgres, SUMS) as pool:
        applier = Deduplication(SMALL, log, SUMS)
        for _ in range(2):  # delivered twice
            assert await applier.apply(pool, everything) == []
            totals = {key: json.loads(row) for key, row in (await rows_in(pool, SUMS)).items()}
            assert {key: row["total"] for key, row in totals.items()} == {"a": 1, "b": 5}
        [parked] = await applier.parked(pool)
        assert (parked.key, parked.revision) == ("a", 1)
        if by_fold:
            assert not await applier.replay(pool, "a")
            Sums.broken.clear()
        else:
            await discards.record(log, parked)
        assert await applier.replay(pool, "a")
        expected = 1 + 2 + (poison if by_fold else 0)
        assert json.loads((await rows_in(pool, SUMS))["a"])["total"] == expected
        with pytest.raises(UnknownTarget):
            await applier.replay(pool, "a")


async def test_an_unreadable_event_parks_its_stream(postgres: str) -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    await add(log, "a", 2, event_type="Whatever")
    await add(log, "a", 3)
    everything = [raw async for raw in log.read_all(["counter-"])]
    async with database(postgres, SUMS) as pool:
        applier = Deduplication(SMALL, log, SUMS)
        assert await applier.apply(pool, everything) == []
        assert json.loads((await rows_in(pool, SUMS))["a"])["total"] == 1
        [parked] = await applier.parked(pool)
        assert (parked.key, parked.stream) == ("", "counter-a")


async def test_a_stream_that_was_parked_whole_counts_again_once_it_was_deleted(
    postgres: str,
) -> None:
    """Its deletion may come together with what it begins again with."""
    log = MemoryLog()
    await add(log, "a", 1)
    await add(log, "a", 2, event_type="Whatever")
    prefixes = with_deletions(["counter-"])
    before = [raw async for raw in log.read_all(prefixes)]
    async with database(postgres, SUMS) as pool:
        applier = Deduplication(SMALL, log, SUMS)
        assert await applier.apply(pool, before) == []
        assert len(await applier.parked(pool)) == 1
        await log.delete_stream("counter-a")
        await add(log, "a", 5)
        since = [raw async for raw in log.read_all(prefixes, after=before[-1].position)]
        assert await applier.apply(pool, since) == []
        assert await applier.parked(pool) == []
        assert json.loads((await rows_in(pool, SUMS))["a"])["total"] == 5


async def test_each_event_of_a_stream_of_any_name_counts_once(postgres: str) -> None:
    log = MemoryLog()
    long = "".join(f"{each:x}" for each in range(10_000))
    for at, name in enumerate(["nul\0", "\x1a0000", long, f"{long}other"]):
        await add(log, name, 1, 2)
        # The row is another one: no row of Postgres has a NUL in its key.
        raws = [raw async for raw in log.read_stream(f"counter-{name}")]
        data = b'{"counter":"%d","number":%d}'
        streams = [raw._replace(data=data % (at, raw.revision + 1)) for raw in raws]
        async with database(postgres, SUMS, fresh=at == 0) as pool:
            applier = Deduplication(SMALL, log, SUMS)
            assert await applier.apply(pool, streams[1:]) == streams[1:]
            for _ in range(2):
                assert await applier.apply(pool, streams) == []
            assert await applier.applied_of(pool, f"counter-{name}") == 1
            assert json.loads((await rows_in(pool, SUMS))[f"{at}"])["total"] == 3


async def test_a_long_stream_that_a_release_before_has_noted_is_not_folded_again(
    postgres: str,
) -> None:
    log, name = MemoryLog(), "a" * 10_000  # Postgres makes it short enough for its index
    await add(log, name, 1, 2)
    raws = [raw async for raw in log.read_stream(f"counter-{name}")]
    raws = [raw._replace(data=b'{"counter":"a","number":1}') for raw in raws]
    async with database(postgres, SUMS) as pool:
        noted = "INSERT INTO rayfold_applied VALUES ($1, $2, 0)"
        await pool.execute(noted, "sums", f"counter-{name}")
        for _ in range(2):
            assert await Deduplication(SMALL, log, SUMS).apply(pool, raws) == []
        assert json.loads((await rows_in(pool, SUMS))["a"])["total"] == 1


async def test_a_view_that_comes_to_be_shared_is_rebuilt(postgres: str) -> None:
    # Its rows would be there without the revisions that say what is folded in.
    async with database(postgres, SUMS) as pool, pool.acquire() as connection:
        ordered = replace(SUMS, delivery="ordered")
        assert await schema.prepare(connection, [ordered], {"sums": 1}) == [ordered]


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


async def test_it_is_no_further_than_its_table_though_another_took_its_place(
    postgres: str, eventstore: str
) -> None:
    """One that was built from a log that had been restored ends before the table of before."""
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


async def test_who_comes_to_another_database_is_told_everything_again(
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


async def test_a_gap_that_waiting_does_not_close_is_closed_from_the_log(
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


async def test_consumers_of_another_release_leave_its_table_alone_and_know_how_far_it_is(
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


async def test_what_its_builder_commits_while_it_is_switched_counts_once(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows came with the switch, and the stream's revision did not."""
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


def type_of(event: Event) -> str:
    return type(event).__rayfold__.name
