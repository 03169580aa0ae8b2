"""Events of competing consumers, in any order and repeated: each counts once, or is parked."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore.deletions import with_deletions
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord, RawRecord
from examples.shop.baskets import ItemPut
from projections import discarded_events as discards
from projections.competing.deduplication import Deduplication
from projections.competing.locks import lock
from projections.errors import UnknownTarget
from projections.parked_pages import BEFORE_ALL, Asked, Place, in_order, place_of
from projections.poison import Parked
from projections.postgres import parked_events, schema
from rayfold import Event, Registry
from rayfold.keys import printable
from tests.integration.projections import small
from tests.integration.projections.competing import (
    BASKETS,
    DEMAND,
    SHOP,
    SMALL,
    SUMS,
    Sums,
    database,
    plainly,
    rows_in,
)
from tests.integration.projections.small import Added, add
from tests.integration.projections.test_sql_projection import history_of, items, purchases


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


async def test_an_event_waits_for_the_preceding_event_of_its_stream(postgres: str) -> None:
    put = [ItemPut(basket_id="a", sku="tea", quantity=n) for n in (1, 2, 4)]
    first, second, third = history_of(put)
    async with database(postgres, DEMAND) as pool:
        applier = Deduplication(SHOP, MemoryLog(), DEMAND)
        assert await applier.apply(pool, [third, second]) == [second, third]
        assert await rows_in(pool, DEMAND) == {}
        assert await applier.apply(pool, [first, third]) == [third]
        assert await applier.apply(pool, [third, second, first]) == []
        assert json.loads((await rows_in(pool, DEMAND))["tea"])["quantity"] == 7


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


async def test_all_rows_that_a_batch_changes_can_be_locked_however_many_they_are(
    postgres: str,
) -> None:
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


async def test_of_many_parked_events_a_batch_reads_only_those_that_concern_it(
    postgres: str,
) -> None:
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
async def test_pages_of_parked_events_list_everything_once_also_with_many_rows_of_one_event(
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


async def test_a_parked_stream_is_folded_again_after_it_was_deleted_and_begun_again(
    postgres: str,
) -> None:
    """Its deletion may come in the same batch as its new events."""
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


async def test_a_long_stream_name_recorded_by_an_earlier_release_is_recognised(
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


async def test_a_view_that_becomes_shared_by_consumers_is_rebuilt(postgres: str) -> None:
    # Its rows would be there without the revisions that say what is folded in.
    async with database(postgres, SUMS) as pool, pool.acquire() as connection:
        ordered = replace(SUMS, delivery="ordered")
        assert await schema.prepare(connection, [ordered], {"sums": 1}) == [ordered]
