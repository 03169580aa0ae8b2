"""What was parked is found on the log again."""

from __future__ import annotations

from typing import Any

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections import parked_places
from projections.operations.parked_events import ParkedEventOperations
from projections.poison import Held, Parked


async def test_the_events_are_those_at_the_positions_in_their_order() -> None:
    log = MemoryLog()
    for stream in ("s-1", "s-2"):
        new = [NewRecord("E", b"%d" % n, {}, f"{stream}-{n}") for n in range(3)]
        await log.append([StreamAppend(stream, ANY, new)])
    places: list[Parked | Held] = [
        Parked("v", "k", "s-2", 0, 4, "broke"),
        Held("v", "k", "s-1", 2, 3),
    ]
    found = [(raw.stream, raw.revision) async for raw in parked_places.events(log, places)]
    assert found == [("s-2", 0), ("s-1", 2)]


async def test_an_event_of_a_recreated_stream_is_not_taken_for_the_parked_one() -> None:
    log, nothing = MemoryLog(), NewRecord("E", b"", {}, "s")
    for stream, tombstone in (("begun-again", False), ("gone", True)):
        await log.append([StreamAppend(stream, ANY, [nothing] * 3)])
        await log.delete_stream(stream, tombstone=tombstone)
    await log.append([StreamAppend("begun-again", ANY, [nothing])])
    unused: Any = None
    operations = ParkedEventOperations(unused, log, unused, unused)
    for stream in ("begun-again", "gone"):
        place = Parked("v", "k", stream, 1, 2, "broke")
        assert [raw async for raw in parked_places.events(log, [place])] == []
        assert await operations.event(stream, 1) is None
