"""Steps of `$all`: what a filter shows, and how much is looked at to find it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore.embedded.protocol.constants import ANY
from eventstore.embedded.storage.event import Event, Proposed
from eventstore.embedded.storage.filters import EventFilter, index_filter
from eventstore.embedded.storage.operations import Append
from eventstore.embedded.storage.store import Store

EVENTS = 600


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """One event of seven is an order's."""
    opened = Store(tmp_path / "data")
    await opened.start()
    for at in range(EVENTS):
        name = "order-1" if at % 7 == 0 else f"other-{at % 3}"
        event = Proposed(uuid.uuid4().bytes, "Placed", True, b"{}", b"")
        await opened.submit(Append(name, ANY, [event]))
    yield opened
    await opened.stop()


class Asked:
    """A filter on streams, and how many names it was asked for."""

    def __init__(self, prefix: str) -> None:
        self.count = 0
        self.filter = EventFilter(True, lambda name: name.startswith(prefix), None)
        matches = self.filter.matches

        def counted(stream: str, event_type: str) -> bool:
            self.count += 1
            return matches(stream, event_type)

        self.filter.matches = counted  # type: ignore[method-assign]


def test_an_index_has_no_system_events_of_its_streams() -> None:
    """Neither of a page nor live, whatever was asked about the stream before."""
    index = index_filter("$idx-ce-order")
    system, plain = (
        Event(at, 1, "order-1", at, b"", kind, 0, 0, b"")
        for at, kind in enumerate(["$metadata", "Placed"])
    )
    assert [index.shows(plain), index.shows(system), index.shows(plain)] == [True, False, True]


def test_the_last_event_is_found_without_a_look_at_thousands(store: Store) -> None:
    """Who asks for the log's end holds up all writers for as long as the answer takes."""
    asked = Asked("other-")
    rows, _ = store.log.scan_backwards(store.log.recent.last_position + 1, asked.filter, 1)
    assert len(rows) == 1
    assert asked.count <= 7


@pytest.mark.parametrize("limit", [1, 2, 5, 86, 256, EVENTS])
@pytest.mark.parametrize("backwards", [False, True])
def test_all_matches_are_found_step_by_step(store: Store, limit: int, backwards: bool) -> None:
    asked = Asked("order-")
    last = store.log.recent.last_position
    found: list[int] = []
    if backwards:
        at = last + 1
        while at > 0:
            rows, at = store.log.scan_backwards(at, asked.filter, limit)
            assert len(rows) <= limit
            found += [position for position, _ in rows]
        found.reverse()
    else:
        at = 0
        while at < last:
            rows, at = store.log.scan_forwards(at, asked.filter, limit)
            assert len(rows) <= limit
            found += [position for position, _ in rows]
    first = last - EVENTS + 1
    assert found == [first + each for each in range(0, EVENTS, 7)]
