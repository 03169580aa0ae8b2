"""Steps of `$all`: what a filter shows, and how many events are read to find it."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.embedded.protocol.constants import ANY
from eventstore.embedded.protocol.errors import RpcError
from eventstore.embedded.storage.event import Event, Proposed
from eventstore.embedded.storage.filters import EventFilter, index_filter, make_filter
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


@pytest.mark.parametrize(
    ("regex", "name", "matches"),
    [
        (r"^(?<kind>Order)Placed$", "OrderPlaced", True),
        (r"Placed\z", "OrderPlaced", True),
        (r"Placed\z", "OrderPlaced\n", False),
        (r"Placed\Z", "OrderPlaced\n", True),
        (r"Placed\Z", "OrderPlacedTwice", False),
        (r"(?<=Order)Placed", "OrderPlaced", True),
        (r"^\(?<Order>\\z$", r"(<Order>\z", True),
    ],
)
def test_regular_expressions_are_those_of_net(regex: str, name: str, matches: bool) -> None:
    assert make_filter(False, regex, ()).matches("order-1", name) is matches


@pytest.mark.parametrize("regex", [r"\p{Lu}", "[a-", r"(?<a-b>x)"])
def test_a_pattern_that_python_does_not_have_is_refused_with_an_explanation(regex: str) -> None:
    with pytest.raises(RpcError, match=r"Invalid pattern .* valid in both \.NET and Python, "):
        make_filter(False, regex, ())


NAMED = st.text(st.sampled_from("a-'%_\0\x7f\u0080\ud7ff\ue000\U0010ffff"), max_size=4)


@pytest.mark.parametrize("on_stream", [True, False])
@given(
    names=st.lists(NAMED, unique=True),
    prefixes=st.lists(NAMED.filter(bool), min_size=1, max_size=3),
)
def test_a_prefix_filter_finds_the_same_in_the_database_as_live(
    on_stream: bool, names: list[str], prefixes: list[str]
) -> None:
    """What is read from disk must be the same as what is sent live."""
    match = make_filter(on_stream, "", tuple(prefixes))
    if match.sql is None:
        assert any("\0" in prefix for prefix in prefixes)
        return
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(
            "CREATE TABLE events (position INTEGER PRIMARY KEY, stream, type, flags);"
            "CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT);"
            "CREATE TABLE types (id INTEGER PRIMARY KEY, name TEXT)"
        )
        rows = list(enumerate(names))
        table = "streams" if on_stream else "types"
        db.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
        db.executemany("INSERT INTO events VALUES (?1, ?1, ?1, 0)", [(at,) for at, _ in rows])
        db.execute("INSERT INTO events VALUES (-1, 0, 0, 1)")  # hidden
        found = db.execute(f"SELECT position FROM events WHERE {match.sql} ORDER BY position")
        events = [Event(at, at, name, 0, b"", name, 0, 0, b"") for at, name in rows]
        assert [at for (at,) in found] == [each.position for each in events if match.shows(each)]


def test_a_filter_of_any_length_is_taken() -> None:
    many = make_filter(True, "", tuple(f"category-{at}-" for at in range(10_000)))
    assert many.sql is None
    assert many.matches("category-9999-1", "Placed")


@pytest.mark.parametrize("count", [0, 1, 400, 401, 2_000])
def test_any_number_of_prefixes_is_taken(count: int) -> None:
    """SQLite nests no deeper than 1,000."""
    match = make_filter(True, "", tuple(str(at) for at in range(count)))
    assert match.matches(f"{count - 1}-1", "Placed") is (count > 0)
    assert (match.sql is not None) is (0 < count <= 400)
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript("CREATE TABLE events (stream, flags); CREATE TABLE streams (id, name)")
        db.execute(f"SELECT 1 FROM events WHERE {match.sql or 'true'}")


def test_a_prefix_that_is_given_often_is_looked_for_once() -> None:
    assert make_filter(True, "", ("a-",) * 2_000).sql == make_filter(True, "", ("a-",)).sql


def test_an_index_has_no_system_events_of_its_streams() -> None:
    """Neither in pages nor live, whatever was read of the stream before."""
    index = index_filter("$idx-ce-order")
    system, plain = (
        Event(at, 1, "order-1", at, b"", kind, 0, 0, b"")
        for at, kind in enumerate(["$metadata", "Placed"])
    )
    assert [index.shows(plain), index.shows(system), index.shows(plain)] == [True, False, True]


def test_the_last_event_is_found_without_a_look_at_thousands(store: Store) -> None:
    """A request for the log's end blocks all writers for as long as the answer takes."""
    asked = Asked("other-")
    rows, _ = store.log.scan_backwards(store.log.recent.last_position + 1, asked.filter, 1)
    assert len(rows) == 1
    assert asked.count <= 7


BY_PREFIX = make_filter(True, "", ("order-",))
"""The database decides."""


@pytest.mark.parametrize("match", [Asked("order-").filter, BY_PREFIX])
@pytest.mark.parametrize("limit", [1, 2, 5, 86, 256, EVENTS])
@pytest.mark.parametrize("backwards", [False, True])
def test_all_matches_are_found_step_by_step(
    store: Store, limit: int, backwards: bool, match: EventFilter
) -> None:
    last = store.log.recent.last_position
    found: list[int] = []
    if backwards:
        at = last + 1
        while at > 0:
            rows, at = store.log.scan_backwards(at, match, limit)
            assert len(rows) <= limit
            found += [position for position, _ in rows]
        found.reverse()
    else:
        at = 0
        while at < last:
            rows, at = store.log.scan_forwards(at, match, limit)
            assert len(rows) <= limit
            found += [position for position, _ in rows]
    first = last - EVENTS + 1
    assert found == [first + each for each in range(0, EVENTS, 7)]
