"""What a store keeps: each event once, whoever writes, whatever is cut; and what is parked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections.errors import Fenced, ProjectionError, UnknownTarget, WouldPark
from projections.stores import rebuild
from projections.stores.port import ReadStore
from projections.stores.projector import APART
from rayfold import Aggregate, Event, ViewDefinition
from tests.contract.stores.checks import differences, told
from tests.contract.stores.faults import Cut, Cuts, CutWriter, QuietLog, Refusing, RepeatingLog
from tests.contract.stores.shelf import Note, Noted, Nothing, Painted, Put, Shelf, Taken, write
from tests.contract.stores.subjects import TIMEOUT, Durable, Subject, pace, running
from tests.contract.stores.test_queries import Under, one, page

SOME = [
    *(Put(id=f"{at}", name=f"n{at % 2}", colour="red") for at in range(6)),
    *(Painted(id=f"{at}", colour="blue") for at in range(0, 6, 2)),
    Taken(id="1"),
]


async def painted(store: Subject, key: str, at_least: int) -> int:
    answer = await store.ask(one(key, at_least))
    return int(json.loads(answer.body or b"")["painted"])


LARGE_NAME = "".join(hashlib.sha256(b"%d" % at).hexdigest() for at in range(150))
"""One that no store makes much smaller."""


async def take_away(writer: Any, key: str, to: dict[str, int]) -> None:
    """Remove a row in a transaction."""
    async with writer.transaction(to) as transaction:
        rows = await transaction.load("shelf", [key])
        assert rows[key].row.id == key
        await transaction.store("shelf", {key: None}, rows)


async def test_a_projector_goes_on_where_the_one_before_ended(durable: Durable) -> None:
    log = durable.log
    end = await write(log, *SOME)
    await durable.start()
    await durable.reached(end)
    await durable.end()
    end = await write(log, Painted(id="0", colour="green"))
    [projector] = durable.begin()
    await durable.reached(end)
    assert projector.runner.events == 1
    assert await painted(durable, "0", end) == 2
    assert await differences(log, durable) == []
    await durable.close()


@pytest.mark.parametrize("fate", ["before", "after"])
async def test_a_cut_in_the_middle_of_a_batch_neither_loses_nor_repeats_an_event(
    durable: Durable, fate: str
) -> None:
    cuts = Cuts()
    durable._wrapped = cuts.wrap
    log = durable.log
    async with running(durable):
        for _ in range(3):
            cuts.plan = ["", fate, fate, ""]
            end = await write(log, *SOME)
            await durable.reached(end)
        assert cuts.done >= 1
        assert await painted(durable, "0", end) == 1
        end = await write(log, *(Painted(id="0", colour="red") for _ in range(50)))
        assert await painted(durable, "0", end) == 51
        assert await differences(log, durable) == []


async def test_what_changes_no_row_moves_checkpoints_only_now_and_then(durable: Durable) -> None:
    cuts = Cuts()
    durable._wrapped = cuts.wrap
    log = durable.log
    async with running(durable):
        await durable.reached(await write(log, *SOME))
        before, began = cuts.transactions, time.monotonic()
        while time.monotonic() < began + 4 * APART:
            end = await write(log, Noted(id="0"))
            await asyncio.sleep(0.005)
        passed = cuts.transactions - before
        assert passed <= (time.monotonic() - began) / APART + 1
        assert await painted(durable, "0", end) == 1  # whoever has seen `end` is answered
        await durable.reached(end)
        await durable.end()
        end = await write(log, Painted(id="0", colour="red"))
        [projector] = durable.begin()
        assert await painted(durable, "0", end) == 2
        await durable.reached(end)
        assert projector.runner.events == 1


async def test_what_is_cut_has_written_neither_rows_nor_checkpoint(durable: Durable) -> None:
    log = durable.log
    await durable.start()
    end = await write(log, Put(id="a", name="tea"))
    await durable.reached(end)
    await durable.end()
    views, store = durable.views, durable.make()
    async with store.writing(views, 0, 1, {}) as writer:
        await writer.open()
        cuts = Cuts()
        cuts.plan = ["before"]
        with pytest.raises(Cut):
            await take_away(CutWriter(writer, cuts), "a", {view.name: end + 5 for view in views})
    async with store.writing(views, 0, 1, {}) as writer:
        await writer.open()
        assert set(writer.positions.values()) == {end}
    assert (await durable.ask(one("a", end))).body is not None
    await durable.close()


async def test_events_that_are_delivered_again_count_once(durable: Durable) -> None:
    durable.log = log = RepeatingLog()
    async with running(durable):
        for _ in range(3):
            end = await write(
                log, *SOME, Painted(id="0", colour="red"), Painted(id="2", colour="x")
            )
            await durable.reached(end)
            await durable.end()
            durable.begin()
        await durable.reached(end)
        assert await painted(durable, "0", end) == 2
        assert await differences(log, durable) == []


async def test_a_second_writer_takes_over_and_the_first_is_refused(durable: Durable) -> None:
    log = durable.log
    await durable.start()
    await durable.reached(await write(log, Put(id="a", name="tea")))
    await durable.end()
    views, store = durable.views, durable.make()
    async with store.writing(views, 0, 1, {}) as first, store.writing(views, 0, 1, {}) as second:
        await first.open()
        await second.open()
        to = {view.name: at + 1 for view in views for at in [first.positions[view.name]]}
        async with second.transaction(to):
            pass
        for late in ({name: at + 5 for name, at in to.items()}, {}):  # as a replay
            with pytest.raises(Fenced):
                await take_away(first, "a", late)
        await second.open()
        assert second.positions == to
    assert (await durable.ask(one("a"))).body is not None
    await durable.close()


async def replaced_by_a_build(durable: Durable) -> None:
    await durable.rebuild("shelf")


async def replaced_by_a_cut(durable: Durable) -> None:
    await durable.store.generations.partition(durable.views, 2)


@pytest.mark.parametrize("replaced", [replaced_by_a_build, replaced_by_a_cut])
async def test_the_writer_of_what_was_replaced_is_refused_and_told(
    durable: Durable,
    replaced: Callable[[Durable], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever replaced it may have ended before anybody renewed the writer."""
    for each in ("postgres", "dynamodb"):
        monkeypatch.setattr(f"projections.{each}.writer.LOOK", 0.2)
    log, views = durable.log, durable.views
    await durable.start()
    end = await write(log, Put(id="a", name="tea"))
    await durable.reached(end)
    await durable.end()
    store = durable.make()
    async with store.writing(views, 0, 1, {}) as old:
        await old.open()
        telling = asyncio.create_task(old.lost())
        at = old.positions["shelf"]
        await replaced(durable)
        for to in ({"shelf": at + 5}, {"shelf": at}, {}):  # as a replay, which moves nothing
            with pytest.raises(Fenced):
                async with asyncio.timeout(TIMEOUT), old.transaction(to) as transaction:
                    await transaction.store("shelf", {"a": None}, {})
        with pytest.raises(Fenced):
            async with asyncio.timeout(TIMEOUT):
                await telling
    await store.close()
    durable.begin(2 if replaced is replaced_by_a_cut else 1)
    end = await write(log, Painted(id="a", colour="red"))
    assert await painted(durable, "a", end) == 1
    assert await differences(log, durable) == []
    await durable.close()


async def test_rivals_for_one_partition_count_each_event_once(durable: Durable) -> None:
    log = durable.log
    async with running(durable):
        durable.begin()
        for _ in range(10):
            await write(log, Put(id="a", name="tea"), *(Painted(id="a", colour="r"),) * 5)
            await asyncio.sleep(0.01)
        end = await write(log, Painted(id="a", colour="r"))
        assert await painted(durable, "a", end) == 6
        assert await differences(log, durable) == []


async def test_keys_are_cut_anew_while_events_come(durable: Durable) -> None:
    log = durable.log
    async with running(durable):
        await durable.reached(await write(log, *SOME))

        async def more() -> None:
            for at in range(60):
                await write(log, Painted(id=f"{at % 6}", colour=f"c{at % 5}"))
                await asyncio.sleep(0.002)

        writing = asyncio.create_task(more())
        for partitions in (3, 2, 1):
            await durable.cut(partitions)
            await asyncio.sleep(0.02)
        await writing
        end = await write(log, Painted(id="0", colour="last"))
        await durable.reached(end)
        assert await painted(durable, "0", end) == 1 + 10 + 1
        assert await differences(log, durable) == []


async def test_a_page_has_come_as_far_as_the_slowest_partition(durable: Durable) -> None:
    log = durable.log
    await durable.start(2)
    end = await write(log, *SOME)
    await durable.reached(end)
    await durable.end()
    slow = durable.projector(0, 2)
    working = asyncio.create_task(slow.run())
    later = await write(log, *(Painted(id=f"{at}", colour="late") for at in range(6)))
    assert await slow.progress.reached(later, TIMEOUT)
    found = await durable.store.find(page(0))
    assert (found.covered, found.result.position) == (end, later)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await durable.close()


async def test_a_rebuild_goes_on_under_load_and_no_query_fails_or_goes_back(
    subject: Under,
) -> None:
    log, store = subject
    async with running(store):
        await store.reached(await write(log, *SOME))
        stop = asyncio.Event()
        asked = 0

        async def paint() -> None:
            while not stop.is_set():
                await write(log, Painted(id="0", colour="red"), Painted(id="3", colour="blue"))
                await asyncio.sleep(pace(store))

        async def read(query_at: int) -> None:
            nonlocal asked
            last = painted = 0
            while not stop.is_set():
                query = one("0", last) if query_at else page(last, 3, name="n0")
                answer = await store.ask(query)
                assert answer.position >= last
                said = json.loads(answer.body or b"")
                row = said if query_at else said["items"][0]
                assert row["id"] == "0"
                assert row["painted"] >= painted, "half of a view"
                last, painted = answer.position, row["painted"]
                asked += 1
                await asyncio.sleep(0)

        working = [asyncio.create_task(each) for each in (paint(), read(0), read(1), read(1))]
        for at in range(1_000):
            await store.rebuild("shelf")
            await asyncio.sleep(0.01)
            if at > 1 and asked > 50:
                break
        stop.set()
        await asyncio.gather(*working)
        end = await write(log, Painted(id="0", colour="last"))
        await store.reached(end)
        assert asked > 50
        print(f"{store.name}: {at + 1} rebuilds, {asked} queries, none failed, {end} events")
        assert await differences(log, store) == []


async def test_a_build_that_is_behind_replaces_nothing(durable: Durable) -> None:
    log = durable.log
    async with running(durable):
        end = await write(log, *SOME)
        await durable.reached(end)
        view, generations = durable.registry.views["shelf"], durable.store.generations

        async def never(position: int) -> None:
            assert position >= end

        async def worse(position: int) -> None:
            assert await generations.newly_parked(view, built) is None  # also while writers wait
            raise WouldPark("it serves less")

        built = await generations.begin(view)
        with pytest.raises(ProjectionError):
            await generations.switch(view, built, never)
        with pytest.raises(WouldPark, match="serves less"):
            await generations.switch(view, built, worse)
        await generations.discard(view, built)
        with pytest.raises(ProjectionError):
            await generations.switch(view, built, lambda at: asyncio.sleep(0, at))
        end = await write(log, Painted(id="0", colour="red"))
        assert await painted(durable, "0", end) == 2
        assert await differences(log, durable) == []


@pytest.mark.parametrize("partitions", [1, 3])
async def test_a_rebuild_replaces_what_a_restored_log_has_lost(
    durable: Durable, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "PATIENCE", 0.1)
    await durable.start(partitions)
    await durable.reached(await write(durable.log, *SOME))
    await durable.end()
    lost, durable.log = durable.log, MemoryLog()
    await write(durable.log, Put(id="0", name="another"))
    assert await lost.end_position(["thing-"]) > await durable.log.end_position(["thing-"])
    durable.begin(partitions)
    # It grows past what it has lost, by other events than were folded.
    grown = [Painted(id="0", colour="red"), *(Put(id=f"new {at}", name="n") for at in range(9))]
    left = sorted(view.name for view in durable.views)
    while left:
        await until_lost(durable, left)
        await durable.rebuild(left.pop())
        end = await write(durable.log, *grown)
    await durable.reached(end)
    assert await painted(durable, "0", 0) == 2
    assert await differences(durable.log, durable) == []
    await durable.close()


async def until_lost(durable: Durable, views: list[str]) -> None:
    """Wait until each projector says of which views the log does not have what was folded."""
    async with asyncio.timeout(TIMEOUT):
        for projector in durable.projectors:
            while not says_lost(projector.status(), views):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def says_lost(status: dict[str, Any], views: list[str]) -> bool:
    return status.get("lost") == views and "restored" in status.get("error", "")


class Moved(Event, name="Moved"):
    """Concerns no view."""

    id: str


class Place(Aggregate[Nothing, Note, Moved], category="place", id_field="id", initial=Nothing()):
    """Of another kind than what the views are of."""

    @staticmethod
    def decide(state: Nothing, command: Note) -> list[Event]:
        return []

    @staticmethod
    def evolve(state: Nothing, event: Moved) -> Nothing:
        return state


async def test_what_is_no_view_s_concern_does_not_travel_and_is_passed_all_the_same(
    durable: Durable,
) -> None:
    durable.registry.aggregates["place"] = Place
    log = durable.log = QuietLog()
    async with running(durable):
        [projector] = durable.projectors
        await durable.reached(await write(log, *SOME))
        assert log.asked == ["thing-", "$$thing-"]
        for each in range(3):
            end = await write(log, Moved(id="a"), stream=f"place-{each}")
            assert await projector.runner.reached(end, TIMEOUT) == end
            assert await painted(durable, "0", end) == 1  # the store knows it too
        end = await write(log, Moved(id="a"), stream="place-0")
        await projector.runner.settled()
        assert projector.status()["position"] == end

        log.goes_on.clear()
        await write(log, Painted(id="0", colour="red"))
        end = await write(log, Moved(id="a"), stream="place-a")
        assert await projector.runner.reached(end, 0.5) < end - 1
        log.goes_on.set()
        assert await projector.runner.reached(end, TIMEOUT) == end
        assert await painted(durable, "0", end) == 2
        assert await differences(log, durable) == []


async def test_what_nobody_finished_is_removed_and_a_changed_definition_is_found(
    durable: Durable,
) -> None:
    log = durable.log
    async with running(durable):
        await durable.reached(await write(log, *SOME))
        await durable.end()
        generations = durable.store.generations
        left = await generations.begin(durable.registry.views["shelf"])
        changed = _changed(durable)
        wanted = dict.fromkeys(durable.registry.views, 1)
        assert await generations.prepare(durable.views, wanted) == [changed]
        with pytest.raises(ProjectionError):
            await generations.switch(changed, left, lambda at: asyncio.sleep(0, at))
        # What serves is the one before, and nobody of this release writes it.
        assert (await durable.ask(one("0"))).body is not None
        async with durable.make().writing([changed], 0, 1, {}) as writer:
            with pytest.raises(Fenced, match="another release"):
                await writer.open()
        await durable.rebuild("shelf")
        assert await generations.prepare(durable.views, wanted) == []
        durable.begin()
        await durable.reached(await write(log, Painted(id="0", colour="red")))
        assert await differences(log, durable) == []


def _changed(durable: Durable) -> ViewDefinition:
    changed = replace(durable.registry.views["shelf"], version=2)
    durable.registry.views["shelf"] = changed
    durable.views = list(durable.registry.views.values())
    return changed


async def test_a_row_that_breaks_is_parked_with_what_comes_after_it_and_no_other(
    subject: Under,
) -> None:
    log, store = subject
    Shelf.broken = {"black"}
    async with running(store):
        end = await write(
            log,
            Put(id="a", name="tea"),
            Painted(id="a", colour="black"),
            Painted(id="a", colour="red"),
            Put(id="b", name="tea"),
            Painted(id="b", colour="red"),
        )
        await store.reached(end)
        assert told(store.parked()) == {("shelf", "a", 1)}
        assert await painted(store, "a", end) == 0
        assert await painted(store, "b", end) == 1
        assert await differences(log, store) == []


async def test_a_generation_in_the_making_says_what_it_parks_that_the_live_one_serves(
    durable: Durable,
) -> None:
    log = durable.log
    Shelf.broken = {"black"}
    await durable.start(2)
    painted_so = {
        "a": ["black", "red"],  # parked already, and before
        "b": ["red", "black"],  # served an event more
        "c": ["blue"],
        'd "\n': ["red"],
        "e": ["black"],  # parked no more
    }
    for key, colours in painted_so.items():
        events = [Painted(id=key, colour=colour) for colour in colours]
        end = await write(log, Put(id=key, name="tea"), *events)
    unknown = [NewRecord("Whatever", b"{}", {}, str(uuid4()))]  # parks all of its stream, in both
    await log.append([StreamAppend("thing-c", ANY, unknown)])
    end = await write(log, Put(id="f", name="tea"))
    await durable.reached(end)
    here = {("shelf", "a", 1), ("shelf", "b", 2), ("shelf", "e", 1), ("shelf", "", 2)}
    assert told(each for each in durable.parked() if each.view == "shelf") == here
    Shelf.broken = {"red"}
    async with durable.built("shelf") as (builder, beside):
        there = {("shelf", "a", 2), ("shelf", "b", 1), ("shelf", 'd "\n', 1), ("shelf", "", 2)}
        assert told(builder.parked()) == there
        new = await beside.newly_parked()
    assert new is not None
    assert (new.number, new.first.key, new.first.revision) == (2, "b", 1)
    assert "red" in new.first.error
    Shelf.broken = {"black"}
    async with durable.built("shelf") as (_, beside):
        assert await beside.newly_parked() is None
    assert await painted(durable, 'd "\n', end) == 1
    await durable.close()


async def test_what_is_parked_outlives_a_restart_and_is_replayed_in_order(
    durable: Durable,
) -> None:
    log = durable.log
    Shelf.broken = {"black"}
    await durable.start()
    await write(log, Put(id='a "\n', name="tea"), Painted(id='a "\n', colour="black"))
    end = await write(log, Painted(id='a "\n', colour="red"), Put(id="b", name="tea"))
    await durable.reached(end)
    await durable.end()
    [projector] = durable.begin()
    end = await write(log, Painted(id='a "\n', colour="blue"))
    await durable.reached(end)
    assert told(durable.parked()) == {("shelf", 'a "\n', 1)}
    assert not await projector.replay("shelf", 'a "\n')
    assert told(durable.parked()) == {("shelf", 'a "\n', 1)}
    Shelf.broken = set()
    assert await projector.replay("shelf", 'a "\n')
    assert durable.parked() == []
    row = json.loads((await durable.ask(one('a "\n', end))).body or b"")
    assert (row["painted"], row["colour"]) == (3, "blue")
    with pytest.raises(UnknownTarget):
        await projector.replay("shelf", 'a "\n')
    await durable.end()
    durable.begin()
    await durable.reached(await write(log, Painted(id='a "\n', colour="green")))
    assert durable.parked() == []
    assert await differences(log, durable) == []
    await durable.close()


STRANGE = [
    "thing-nul\0",
    "thing-\x1a0000 \x1a",
    "thing-\U0010ffff\uffff\x7f\r\n'\"\\",
    f"thing-{LARGE_NAME * 6}",
]
"""Streams that another client of the log may write to."""


@pytest.mark.parametrize("stream", STRANGE, ids=["nul", "escape", "controls", "long"])
async def test_what_is_parked_of_a_stream_of_any_name_outlives_a_restart_and_is_replayed(
    durable: Durable, stream: str
) -> None:
    log = durable.log
    Shelf.broken = {"black"}
    await durable.start()
    await write(log, Put(id="a", name="tea"))
    await write(log, Painted(id="a", colour="black"), Painted(id="a", colour="red"), stream=stream)
    await log.append([StreamAppend(stream, ANY, [NewRecord("Whatever", b"{}", {}, str(uuid4()))])])
    end = await write(log, Put(id="b", name="tea"))
    await durable.reached(end)
    expected = {("shelf", "a", 0, stream), ("shelf", "", 2, stream), ("colours", "", 2, stream)}
    for _ in range(2):
        found = {(each.view, each.key, each.revision, each.stream) for each in durable.parked()}
        assert found == expected
        assert (await durable.ask(one("b", end))).body is not None
        await durable.end()
        [projector] = durable.begin()
        await durable.reached(end)
    Shelf.broken = set()
    assert await projector.replay("shelf", "a")
    assert await painted(durable, "a", end) == 2
    await log.delete_stream(stream)
    await durable.reached(await write(log, Put(id="c", name="tea")))
    assert durable.parked() == []
    await durable.close()


@pytest.mark.parametrize("key", ["nul\0", "\x1a0000 \x1a", "\U0010ffff\uffff\x7f\r\n'\"\\"])
async def test_a_row_of_any_key_is_written_or_parked_and_the_others_go_on(
    durable: Durable, key: str
) -> None:
    log = durable.log
    await durable.start()
    end = await write(
        log,
        Put(id=key, name=key, colour=key),
        Painted(id=key, colour=key),
        Painted(id=key, colour="red"),
        Put(id="b", name="tea"),
    )
    await durable.reached(end)
    for _ in range(2):
        answer = await durable.ask(one(key, end))
        if durable.name == "postgres" and "\0" in key:
            assert told(durable.parked()) == {("shelf", key, 0), ("colours", key, 1)}
            assert answer.body is None
        else:
            assert durable.parked() == []
            assert json.loads(answer.body or b"")["painted"] == 2
            assert await differences(log, durable) == []
        assert (await durable.ask(one("b", end))).body is not None
        await durable.end()
        durable.begin()
        await durable.reached(end)
    await durable.close()


async def test_a_second_event_that_breaks_is_parked_in_turn(durable: Durable) -> None:
    log = durable.log
    Shelf.broken = {"black", "grey"}
    async with running(durable):
        colours = ("black", "red", "grey", "blue")
        events = [Painted(id="a", colour=each) for each in colours]
        end = await write(log, Put(id="a", name="tea"), *events)
        await durable.reached(end)
        Shelf.broken = {"grey"}
        [projector] = durable.projectors
        assert not await projector.replay("shelf", "a")
        assert told(durable.parked()) == {("shelf", "a", 3)}
        assert await painted(durable, "a", end) == 2
        Shelf.broken = set()
        assert await projector.replay("shelf", "a")
        assert await painted(durable, "a", end) == 4


async def test_many_rows_are_replayed_together_and_each_as_if_it_were_alone(
    durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, keys = durable.log, ["a", "b", "c", 'd "\n']
    Shelf.broken = {"black", "grey"}
    async with running(durable):
        for key in keys:
            colours = ("black", "grey" if key == "b" else "red", "blue")
            events = [Painted(id=key, colour=each) for each in colours]
            end = await write(log, Put(id=key, name="tea"), *events)
        await durable.reached(end)
        [projector] = durable.projectors
        before = {("shelf", key, 1) for key in keys}
        assert told(durable.parked()) == before
        writer, begun = projector._writer, list[Any]()
        assert writer is not None
        begin = writer.transaction

        def noted(to: Any) -> Any:
            begun.append(to)
            return begin(to)

        monkeypatch.setattr(writer, "transaction", noted)
        Shelf.broken = {"grey"}
        await projector.replay_all("shelf", [*keys, "nobody"])
        assert begun == [{}]
        assert told(durable.parked()) == {("shelf", "b", 2)}
        for key in keys:
            assert await painted(durable, key, end) == (1 if key == "b" else 3)
        Shelf.broken = set()
        await projector.replay_all("shelf", keys)
        assert durable.parked() == []
        assert await painted(durable, "b", end) == 3
        assert await differences(log, durable) == []


async def test_a_row_that_the_store_refuses_is_parked_and_the_others_go_on(
    durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_large_names(durable, monkeypatch)
    log = durable.log
    async with running(durable):
        end = await write(
            log,
            Put(id="a", name="tea"),
            Put(id="b", name=LARGE_NAME),
            Painted(id="b", colour="red"),
            Painted(id="a", colour="red"),
        )
        await durable.reached(end)
        [parked] = durable.parked()
        assert (parked.key, parked.by_store) == ("b", True)
        assert await painted(durable, "a", end) == 1
        assert (await durable.ask(one("b", end))).body is None


def refuse_large_names(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres' own indexes refuse such a value; of others it is arranged."""
    if durable.name == "redis":
        monkeypatch.setattr("projections.redis.rows.MAX_ROW", 4_000)
    elif durable.name == "dynamodb":
        monkeypatch.setattr("projections.dynamodb.rows.MAX_ROW", 4_000)
    elif durable.name != "postgres":
        wrap_refusing(durable)


def wrap_refusing(durable: Durable) -> None:
    """Let every transaction refuse names of thousands of letters."""
    before = durable._wrapped

    def wrapped(store: ReadStore) -> ReadStore:
        return Refusing(before(store))  # type: ignore[return-value]

    durable._wrapped = wrapped


async def test_rows_of_a_deleted_stream_go_with_what_is_parked_of_them(subject: Under) -> None:
    log, store = subject
    Shelf.broken = {"black"}
    async with running(store):
        await write(log, Put(id="a", name="tea"), Painted(id="a", colour="black"))
        await store.reached(await write(log, Painted(id="a", colour="red"), Put(id="b", name="n")))
        assert told(store.parked()) == {("shelf", "a", 1)}
        await log.delete_stream("thing-a")
        end = await write(log, Put(id="b", name="tea"))
        await store.reached(end)
        assert store.parked() == []
        assert (await store.ask(one("a", end))).body is None
        assert (await store.ask(one("b", end))).body is not None


async def test_a_batch_of_many_rows_is_written_whole(durable: Durable) -> None:
    log = MemoryLog()
    durable.log = log
    many = [Put(id=f"{at:05d}", name=f"n{at % 7}", size=at) for at in range(int(3 / pace(durable)))]
    end = await write(log, *many)
    began = time.monotonic()
    async with running(durable):
        await durable.reached(end)
        print(f"{durable.name}: {len(many) / (time.monotonic() - began):,.0f} events/s")
        assert await differences(log, durable) == []


@pytest.mark.parametrize("missing", ["name", "size", ""])
async def test_a_row_that_its_fold_has_not_validated_is_parked(
    durable: Durable, missing: str
) -> None:
    view = durable.registry.views["shelf"]
    begin = view.folds[Put]

    def put(event: Put) -> Shelf:
        fields: dict[str, Any] = {"name": "n", "colour": None, "size": 1, "painted": 0}
        if event.id == "bad":
            fields["painted"] = object()
            fields.pop(missing, None)
        return Shelf.model_construct(id=event.id, **fields)

    folds = {**view.folds, Put: replace(begin, apply=put)}
    vars(view)["folds"] = folds
    log = durable.log
    async with running(durable):
        end = await write(log, Put(id="bad", name="n"), Put(id="good", name="n"))
        await durable.reached(end)
        assert [(each.view, each.key) for each in durable.parked()] == [("shelf", "bad")]
        assert (await durable.ask(one("good", end))).body is not None
        assert (await durable.ask(one("bad", end))).body is None
