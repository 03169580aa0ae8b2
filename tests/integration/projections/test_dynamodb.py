"""Specific to DynamoDB: its limits, many items at once, and a table that loses data."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.dynamodb import generations as generations_module
from projections.dynamodb import journal
from projections.dynamodb.generations import DynamoGenerations
from projections.dynamodb.keys import (
    GenerationKeys,
    after,
    behind,
    place_of,
    value_prefix,
)
from projections.dynamodb.rows import MAX_ROW
from projections.dynamodb.store import DynamoStore
from projections.dynamodb.table import TRANSACTION, Delete, Key, Put, Table
from projections.dynamodb.writer import DynamoWriter
from projections.errors import Fenced, ReadStoreUnavailable
from projections.pages import Place
from projections.row_query import RowQuery
from projections.stores import known, port
from rayfold import Aggregate, Command, Event, Message, Registry, View, on
from tests.contract.stores import shelf
from tests.contract.stores.subjects import TIMEOUT, Durable, place, running
from tests.dynamo_server import DynamoServer


class Nothing(Message):
    """A list knows nothing of itself."""


class Note(Command, name="note-list"):
    """Never sent."""

    id: str


class Listed(Event, name="Listed"):
    """Many words are on a list."""

    id: str
    words: tuple[str, ...]
    by: str = "ada"
    text: str = ""


class Lists(Aggregate[Nothing, Note, Listed], category="thing", id_field="id", initial=Nothing()):
    """Decides nothing."""

    @staticmethod
    def decide(state: Nothing, command: Note) -> Iterable[Listed]:
        return []

    @staticmethod
    def evolve(state: Nothing, event: Listed) -> Nothing:
        return state


class Word(View, name="word", key="word", stores=("dynamodb",), indexes=("by",)):
    """A row for each word, by who listed it last."""

    word: str
    times: int = 0
    by: str = ""
    text: str = ""

    @staticmethod
    @on(Listed, key=lambda event: event.words)
    def listed(row: Word, event: Listed) -> Word:
        return row.replace(times=row.times + 1, by=event.by, text=event.text)


def registry() -> Registry:
    """Return the domain of this file."""
    import sys

    return Registry([sys.modules[__name__]])


@pytest.fixture(scope="module")
def server() -> Iterator[DynamoServer]:
    """One server for this file."""
    with DynamoServer("words") as running_server:
        yield running_server


@pytest.fixture
async def words(server: DynamoServer) -> AsyncIterator[Durable]:
    """The view in a stack of its own; nothing runs yet."""
    domain, where = registry(), place(server.url)
    durable = Durable(MemoryLog(), domain, lambda: known.make("dynamodb", domain, where))
    yield durable
    await durable.close()


async def listed(durable: Durable, *events: Listed) -> int:
    return await shelf.write(durable.log, *events)


async def all_words(durable: Durable, at_least: int, **filters: str) -> dict[str, int]:
    """Return how often each word was listed, page by page."""
    found: dict[str, int] = {}
    query = RowQuery("word", None, at_least, filters, 50, None)
    while True:
        page = json.loads((await durable.ask(query)).body or b"")
        found |= {row["word"]: row["times"] for row in page["items"]}
        if page["next_cursor"] is None:
            return found
        query = query._replace(cursor=page["next_cursor"])


MANY = tuple(f"word-{number:04d}" for number in range(120))
"""With their lists four transactions' worth of items."""


async def test_an_event_that_changes_more_rows_than_fit_in_a_transaction_counts_once(
    words: Durable,
) -> None:
    async with running(words):
        end = await listed(
            words,
            Listed(id="a", words=MANY),
            Listed(id="a", words=MANY[:60], by="grace"),
            *(Listed(id="b", words=MANY[:3]) for _ in range(60)),
        )
        found = await all_words(words, end)
        assert found == {word: 1 + (at < 60) + 60 * (at < 3) for at, word in enumerate(MANY)}
        assert (await all_words(words, end, by="grace")).keys() == {*MANY[3:60]}


@pytest.mark.parametrize("breaks_at", [0, 2])
async def test_the_next_writer_completes_the_rows_of_one_that_died(
    words: Durable, monkeypatch: pytest.MonkeyPatch, breaks_at: int
) -> None:
    """The rows are fixed with the checkpoint; the next one to open the partition writes them."""
    steps, transact = 0, Table.transact

    async def breaking(table: Table, actions: Any) -> None:
        nonlocal steps
        if len(actions) > 50:  # one of the steps of a journal
            steps += 1
            if steps == breaks_at + 1:
                raise ReadStoreUnavailable("the network is gone")
        await transact(table, actions)

    monkeypatch.setattr(Table, "transact", breaking)
    async with running(words):
        end = await listed(words, Listed(id="a", words=MANY))
        end = await listed(words, Listed(id="a", words=MANY[:5]))
        found = await all_words(words, end)
        assert found == {word: 1 + (at < 5) for at, word in enumerate(MANY)}
    assert steps > breaks_at


async def test_a_late_step_of_a_stalled_writer_changes_nothing(words: Durable) -> None:
    """A writer stalled in the middle of a journal, and another has completed it meanwhile."""
    async with running(words):
        end = await listed(words, Listed(id="a", words=("tea",)))
        await words.reached(end)
        await words.end()
        store = words.make()
        assert isinstance(store, DynamoStore)
        [view] = words.views
        async with store.writing([view], 0, 1, {}) as writer:
            await writer.open()
            kept = writer.kept["word"]
            late = [Delete(kept.keys.row("tea"))]
            name, entries = await journal.write_journal(writer.table, kept.keys, 0, late)
            assert entries == 1
            # The checkpoint does not name it: nobody ever decided that.
            await journal.finish_journal(writer.table, kept.keys, 0)
        await store.close()
        words.begin()
        assert await all_words(words, end) == {"tea": 1}
        assert name


async def test_a_row_that_an_item_cannot_hold_is_parked_and_no_other(words: Durable) -> None:
    async with running(words):
        end = await listed(
            words,
            Listed(id="a", words=("small",)),
            Listed(id="b", words=("large", "beside"), text="x" * MAX_ROW),
            Listed(id="c", words=("small", "large")),
        )
        assert await all_words(words, end) == {"small": 2}
        await words.reached(end)
        parked = {each.key: each for each in words.parked()}
        assert parked.keys() == {"large", "beside"}
        assert parked["large"].by_store
        assert "an item of DynamoDB" in parked["large"].error


async def test_a_table_that_was_emptied_is_filled_again_by_itself(
    words: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.dynamodb.writer.LOOK", 0.05)
    async with running(words):
        end = await listed(words, Listed(id="a", words=MANY[:20]))
        await words.reached(end)
        store = words.store
        assert isinstance(store, DynamoStore)
        [view] = words.views
        generations: DynamoGenerations = store.generations
        pointer = await generations.pointer(view)
        table = store._table
        await generations._remove(generations.keys_of(view, pointer.live))
        await table.write([Delete(generations.pointer_key(view))])
        assert await all_words(words, end) == dict.fromkeys(MANY[:20], 1)
        end = await listed(words, Listed(id="a", words=MANY[:1]))
        assert (await all_words(words, end))[MANY[0]] == 2


async def test_replaced_rows_are_removed_after_a_switch(
    words: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.dynamodb.generations.GRACE", 0.0)
    async with running(words):
        end = await listed(words, Listed(id="a", words=MANY[:30]))
        await words.reached(end)
        store = words.store
        assert isinstance(store, DynamoStore)
        [view] = words.views
        before = store.generations.keys_of(view, (await store.generations.pointer(view)).live)
        await words.rebuild("word")
        await asyncio.gather(*store.generations._leaving)
        for pk in before.partition_keys:
            assert [each async for each in store._table.all(pk)] == [], pk
        assert await all_words(words, end) == dict.fromkeys(MANY[:30], 1)


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
async def test_an_unfinished_switch_blocks_writers_for_a_time_measured_by_their_own_clock(
    words: Durable, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """The clock of the process that began the switch has no effect on how long that is."""
    monkeypatch.setattr("projections.dynamodb.writer.HELD", 300)
    clock = SimpleNamespace(time=lambda: time.time() + ahead)
    monkeypatch.setattr(generations_module, "time", clock)
    async with running(words):
        await words.reached(await listed(words, Listed(id="a", words=MANY[:1])))
        store = words.store
        assert isinstance(store, DynamoStore)
        [view] = words.views
        keys = store.generations.keys_of(view, (await store.generations.pointer(view)).live)
        await store.generations.hold(keys)
        began = time.monotonic()
        end = await listed(words, Listed(id="a", words=MANY[:1]))
        await words.reached(end)
        assert time.monotonic() - began >= 0.2
        [checkpoint] = (await store.generations.checkpoints(keys)).values()
        assert "hold" not in checkpoint
        assert (await all_words(words, end))[MANY[0]] == 2


@pytest.mark.parametrize("idle", [False, True])
async def test_an_unfinished_switch_of_an_idle_view_delays_no_later_event(
    words: Durable, monkeypatch: pytest.MonkeyPatch, idle: bool
) -> None:
    """Its time starts when a writer opens or looks at it, not at the next event a day later."""
    monkeypatch.setattr("projections.dynamodb.writer.LOOK", 0.01)
    monkeypatch.setattr("projections.dynamodb.writer.WAIT", 2 * TIMEOUT)
    day = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr("projections.dynamodb.writer.time", day)
    await words.start()
    await words.end()
    store = words.make()
    assert isinstance(store, DynamoStore)
    async with asyncio.timeout(TIMEOUT), store.writing(words.views, 0, 1, {}) as writer:
        if idle:
            await writer.open()
        [view] = words.views
        live = (await store.generations.pointer(view)).live
        await store.generations.hold(store.generations.keys_of(view, live))
        if idle:
            looks = asyncio.create_task(writer.lost())
            while writer.kept["word"].hold is None:
                await asyncio.wait([looks], timeout=0.01)
            looks.cancel()
        else:
            await writer.open()
        day.monotonic = lambda: 24 * 60 * 60.0
        async with writer.transaction({"word": writer.positions["word"] + 1}):
            pass
    await store.close()


async def test_a_table_restored_to_an_earlier_moment_is_reported_and_nothing_else_is(
    words: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look may happen while a checkpoint is moving, also by a journal."""
    monkeypatch.setattr("projections.dynamodb.writer.LOOK", 0.0)
    await words.start()
    await words.end()
    store = words.make()
    async with store.writing(words.views, 0, 1, {}) as writer:
        assert isinstance(writer, DynamoWriter)
        await writer.open()
        telling = asyncio.create_task(writer.lost())
        kept = writer.kept["word"]
        at, before = kept.keys.checkpoint(0), []
        for _ in range(15):
            before += await writer.table.get([at])
            async with writer.transaction({"word": writer.positions["word"] + 1}):
                pass
        async with writer.transaction({"word": writer.positions["word"] + 1}) as transaction:
            gone = {f"{number}": None for number in range(TRANSACTION)}
            await transaction.store("word", gone, {})
        assert not telling.done()
        await writer.table.write([Put(at, before[-1])])
        with pytest.raises(Fenced, match="not what it was"):
            async with asyncio.timeout(TIMEOUT):
                await telling
    await store.close()


async def test_a_server_that_does_not_answer_and_an_invalid_url_are_reported_in_one_line() -> None:
    where = port.Place("dynamodb://eu-central-1/views?endpoint=http://127.0.0.1:1", "s")
    for url in (where, where._replace(url="dynamodb://eu-central-1")):
        store = known.make("dynamodb", registry(), url)
        with pytest.raises(ReadStoreUnavailable) as told:
            await store.find(RowQuery("word", "a", 0, {}, 0, None))
        assert "\n" not in str(told.value)
        await store.close()


def test_sort_keys_of_places_and_values_have_the_order_of_pages() -> None:
    keys = ["", "a", "a\x00", "a\x01", "b" * 2_000, "b" * 2_000 + "c", "é", "\U0001f701"]
    places = [place_of(7, key) for key in keys]
    assert len({*places}) == len(keys)
    assert all(len(each.encode()) <= 1_024 - 250 for each in places)
    short = [place_of(7, key) for key in keys if len(key) < 100]
    assert short == sorted(short, key=str.encode)
    for key in keys:
        assert place_of(7, key) < after(Place(7, key)) < place_of(8, "")
    for value in ("", "a", "a\x00", "\x01", "long" * 100):
        prefix = value_prefix(value)
        assert prefix + places[1] < behind(prefix)
        for other in ("a ", "a\x02", "b", "x" * 300):
            assert not value_prefix(other).startswith(prefix)
            member = value_prefix(other) + places[1]
            assert not prefix <= member <= behind(prefix)
    generation = GenerationKeys("s", "word", "g", 1)
    assert {*generation.partition_keys} >= {
        generation.row("x").pk,
        generation.parked("x", "y").pk,
        generation.held("x", "y", 1).pk,
        generation.journal(0, "n", 1).pk,
        generation.checkpoint(0).pk,
    }
    assert Key("a", "b")._asdict() == {"pk": "a", "sk": "b"}


async def test_replaced_rows_are_removed_even_if_the_process_that_replaced_them_has_ended(
    words: Durable,
) -> None:
    [view] = words.views
    async with running(words):
        end = await listed(words, Listed(id="a", words=("tea", "milk")))
        await words.reached(end)
        old = words.make()
        before = (await old.generations.pointer(view)).live  # type: ignore[attr-defined]
        await words.rebuild("word")
        await words.store.close()  # the stack ends within the time that its readers are given
        after_it = words.make()
        assert await after_it.generations.prepare(words.views, {"word": 1}) == []
        keys = old.generations.keys_of(view, before)  # type: ignore[attr-defined]
        left = [
            each
            for pk in keys.partition_keys
            async for each in old._table.all(pk)  # type: ignore[attr-defined]
        ]
        assert left == []
        assert await all_words(words, end) == {"tea": 1, "milk": 1}
        await old.close()
        await after_it.close()


async def test_a_query_during_a_switch_is_answered_completely_from_one_generation(
    words: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.dynamodb.queries.ANSWERED", 2 * TIMEOUT)
    monkeypatch.setattr("projections.dynamodb.generations.GRACE", 3 * TIMEOUT)
    listing, switched = asyncio.Event(), asyncio.Event()
    async with running(words):
        end = await listed(words, Listed(id="a", words=MANY[:5]))
        await words.reached(end)
        reader: Any = words.make()
        page = reader._table.page

        async def slow(*arguments: Any, **named: Any) -> Any:
            found = await page(*arguments, **named)
            listing.set()
            await switched.wait()
            return found

        monkeypatch.setattr(reader._table, "page", slow)
        asking = asyncio.create_task(reader.find(RowQuery("word", None, end, {}, 50, None)))
        await listing.wait()
        await words.rebuild("word")
        switched.set()
        found = json.loads((await asking).result.body)
        assert [row["word"] for row in found["items"]] == [*MANY[:5]]
        await reader.close()


def test_replaced_rows_stay_for_longer_than_a_query_may_take() -> None:
    assert generations_module.GRACE >= 2 * generations_module.ANSWERED
