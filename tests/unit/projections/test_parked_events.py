"""What was parked is found on the log again."""

from __future__ import annotations

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections import parked_places
from projections.poison import Held, Parked


async def test_the_events_are_those_of_the_places_in_their_order() -> None:
    log = MemoryLog()
    for stream in ("s-1", "s-2"):
        new = [NewRecord("E", b"%d" % n, {}, f"{stream}-{n}") for n in range(3)]
        await log.append([StreamAppend(stream, ANY, new)])
    places = [Parked("v", "k", "s-2", 0, 4, "broke"), Held("v", "k", "s-1", 2, 3)]
    found = [(raw.stream, raw.revision) async for raw in parked_places.events(log, places)]
    assert found == [("s-2", 0), ("s-1", 2)]
