"""Writing: each event counts once, whoever writes and wherever a write is interrupted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.errors import Fenced
from projections.stores.projector import APART
from rayfold import Aggregate, Event
from tests.contract.stores.checks import differences
from tests.contract.stores.faults import Cut, Cuts, CutWriter, QuietLog, RepeatingLog
from tests.contract.stores.questions import one, page, painted
from tests.contract.stores.shelf import (
    SOME,
    Note,
    Noted,
    Nothing,
    Painted,
    Put,
    write,
)
from tests.contract.stores.subjects import TIMEOUT, Durable, pace, running


async def take_away(writer: Any, key: str, to: dict[str, int]) -> None:
    """Remove a row in a transaction."""
    async with writer.transaction(to) as transaction:
        rows = await transaction.load("shelf", [key])
        assert rows[key].row.id == key
        await transaction.store("shelf", {key: None}, rows)


async def test_a_projector_continues_where_the_one_before_it_ended(durable: Durable) -> None:
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
async def test_a_lost_connection_in_the_middle_of_a_batch_neither_loses_nor_repeats_an_event(
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


async def test_events_that_change_no_row_move_checkpoints_only_now_and_then(
    durable: Durable,
) -> None:
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


async def test_a_write_that_fails_has_written_neither_rows_nor_checkpoint(durable: Durable) -> None:
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
async def test_the_writer_of_a_replaced_generation_is_refused_and_told_why(
    durable: Durable,
    replaced: Callable[[Durable], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process that replaced it may have ended before the writer was told."""
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


async def test_two_writers_of_one_partition_count_each_event_once(durable: Durable) -> None:
    log = durable.log
    async with running(durable):
        durable.begin()
        for _ in range(10):
            await write(log, Put(id="a", name="tea"), *(Painted(id="a", colour="r"),) * 5)
            await asyncio.sleep(0.01)
        end = await write(log, Painted(id="a", colour="r"))
        assert await painted(durable, "a", end) == 6
        assert await differences(log, durable) == []


async def test_the_number_of_partitions_changes_while_events_come(durable: Durable) -> None:
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


async def test_a_page_covers_the_log_up_to_the_slowest_partition(durable: Durable) -> None:
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


async def test_events_of_no_view_are_not_read_but_their_positions_are_passed(
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
        async with asyncio.timeout(TIMEOUT):  # a look waits a moment alone, and a store may be slow
            while projector.status()["position"] < end:
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
