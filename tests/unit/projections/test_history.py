"""Rows as they were: folded from the log, as every store folds them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord, RawRecord
from projections import discarded_events as discards
from projections.errors import PastCut
from projections.poison import Parked
from projections.queries.history import History
from rayfold import Registry
from tests.integration.projections import small
from tests.integration.projections.small import STRICT, TOTALS, Counter, Totals, add

REGISTRY = Registry([small])


class CountingLog(MemoryLog):
    """Counts what is read of streams."""

    read = 0

    async def read_stream(self, stream: str, **how: Any) -> AsyncGenerator[RawRecord, None]:
        async for raw in super().read_stream(stream, **how):
            self.read += 1
            yield raw


@pytest.fixture
def broken() -> Iterator[set[int]]:
    """Numbers on which folds break."""
    yield Totals.broken
    Totals.broken.clear()


async def total(log: MemoryLog, at: int, view: Any = TOTALS) -> tuple[int, int]:
    """Return the row's revision and total as of a revision of its stream."""
    found = await History(REGISTRY, log).as_of(view, "a", "counter-a", at)
    assert found is not None
    row = json.loads(found[0])
    return row["revision"], row["total"]


@pytest.mark.parametrize("view", [TOTALS, STRICT])
async def test_a_past_row_with_a_failing_event_is_as_its_view_shows_it(
    broken: set[int], view: Any
) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2, 3)
    broken.add(2)
    for at in (0, 1, 2):
        assert await total(log, at, view) == (0, 1)


async def test_the_past_of_a_cut_stream_is_refused() -> None:
    """Otherwise it would be folded from the remaining events as if they were all."""
    log = MemoryLog()
    await add(log, "a", 1, 2, 3)
    log._first["counter-a"] = 1  # as `$maxCount` does
    settings = NewRecord("$metadata", b'{"$maxCount": 2}', {}, str(uuid4()))
    await log.append([StreamAppend("$$counter-a", ANY, [settings])])
    for at in (0, 1, 2):
        with pytest.raises(PastCut, match="nothing of it before revision 1 any more"):
            await total(log, at)


async def test_after_a_deletion_the_past_has_only_the_new_events() -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2)
    await log.delete_stream("counter-a")
    await add(log, "a", 5, 6)
    assert [await total(log, at) for at in (2, 3)] == [(2, 5), (3, 11)]
    assert await History(REGISTRY, log).as_of(TOTALS, "a", "counter-a", 1) is None


async def test_events_after_an_unreadable_event_are_not_shown() -> None:
    log = MemoryLog()
    await add(log, "a", 1)
    await log.append([StreamAppend("counter-a", ANY, [NewRecord("Added", b"7", {}, str(uuid4()))])])
    await add(log, "a", 3)
    assert [await total(log, at) for at in (0, 1, 2)] == [(0, 1)] * 3


async def test_a_discarded_event_is_left_out_of_the_past(broken: set[int]) -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2, 3)
    broken.add(2)
    await discards.record(log, Parked("totals", "a", "counter-a", 1, 2, "cannot add 2"))
    assert [await total(log, at) for at in (0, 1, 2)] == [(0, 1), (0, 1), (2, 4)]


async def test_a_stream_is_read_only_up_to_the_revision() -> None:
    log = CountingLog()
    await add(log, "a", *range(100))
    assert await total(log, 9) == (9, 45)
    assert log.read == 10


async def test_a_stream_is_read_only_up_to_the_event_that_fails(broken: set[int]) -> None:
    log = CountingLog()
    await add(log, "a", *range(100))
    broken.add(2)
    for view in (TOTALS, STRICT):
        log.read = 0
        assert await total(log, 99, view) == (1, 1)
        assert log.read == 3


async def test_a_stream_is_read_only_up_to_the_unreadable_event() -> None:
    log = CountingLog()
    await add(log, "a", 1)
    await log.append([StreamAppend("counter-a", ANY, [NewRecord("Added", b"7", {}, str(uuid4()))])])
    await add(log, "a", *range(100))
    log.read = 0  # who appends reads, too
    assert await total(log, 101) == (0, 1)
    assert log.read == 2


async def test_an_event_that_is_not_json_is_shown_as_text() -> None:
    log = MemoryLog()
    others = [b'{"broken', b"\xff", b"", b'{"a":NaN}', b'"\xff"', b'1},{"type":"Added"']
    exact = b'{"counter":"a","number":1.000000000000000000001}'
    records = [NewRecord("Added", data, {}, str(uuid4())) for data in (*others, exact)]
    await log.append([StreamAppend("counter-a", ANY, records)])
    events = [each async for each in History(REGISTRY, log).events(Counter, "a")]
    body = msgspec.json.encode(events)
    found = json.loads(body, parse_float=str)
    assert [each["data"] for each in found[:-1]] == [
        each.decode(errors="replace") for each in others
    ]
    assert found[-1]["data"] == {"counter": "a", "number": "1.000000000000000000001"}


async def test_at_the_time_of_an_event_the_event_has_happened() -> None:
    log = MemoryLog()
    await add(log, "a", 1, 2)
    [*_, last] = [raw async for raw in log.read_stream("counter-a")]
    assert last.recorded_at is not None
    found = await History(REGISTRY, log).as_of(TOTALS, "a", "counter-a", last.recorded_at)
    assert found is not None
    assert json.loads(found[0])["total"] == 3
