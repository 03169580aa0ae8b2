"""An event of the largest size that fits a message, by every way in and every way out."""

from collections.abc import Callable

import psutil
import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, NewEvents, StreamState
from kurrentdbclient.events import NewRecord

from tests.contract.eventstore.making import take, until
from tests.contract.eventstore.process import ServerProcess

ANY = StreamState.ANY
DATA = b"x" * 16_700_000

WAYS_IN: dict[str, Callable[[KurrentDBClient, str], object]] = {
    "append": lambda c, n: c.append_to_stream(n, current_version=ANY, events=NewEvent("A", DATA)),
    "batch": lambda c, n: c.append_to_stream(n, current_version=ANY, events=[NewEvent("A", DATA)]),
    "records": lambda c, n: c.append_records(NewRecord(n, "A", DATA)),
    "session": lambda c, n: c.multi_append_to_stream(NewEvents(n, [NewEvent("A", DATA)], ANY)),
}


@pytest.mark.parametrize("way", WAYS_IN)
def test_every_way_in(client: KurrentDBClient, name: str, way: str) -> None:
    WAYS_IN[way](client, name)
    (got,) = client.get_stream(name)
    assert got.data == DATA


def test_every_way_out(client: KurrentDBClient, name: str) -> None:
    links = name + "-links"
    before = client.get_commit_position(filter_exclude=[])
    client.append_to_stream(name, current_version=ANY, events=NewEvent("A", DATA))
    link = NewEvent(type="$>", data=f"0@{name}".encode(), content_type="application/octet-stream")
    client.append_to_stream(links, current_version=ANY, events=link)
    client.create_subscription_to_stream("g", links, resolve_links=True)
    only = {"filter_include": [name], "filter_by_stream_name": True}
    with (
        client.read_subscription_to_stream("g", links) as group,
        client.subscribe_to_stream(name) as follower,
        client.subscribe_to_all(commit_position=before, **only) as follower_of_all,
    ):
        for got in (
            client.get_stream(name, backwards=True)[0],
            client.get_stream(links, resolve_links=True)[0],
            take(client.read_all(commit_position=before, **only), 1)[0],
            next(follower),
            next(follower_of_all),
            next(group),
        ):
            assert (got.stream_name, got.data) == (name, DATA)
    client.delete_subscription("g", links)


def memory_of(server: ServerProcess) -> int:
    """Mebibytes of its own; where the system tells, without the pages of the mapped database."""
    memory = psutil.Process(server.pid).memory_info()
    return int(memory.rss - getattr(memory, "shared", 0)) // 2**20


def test_slow_readers_have_large_events_wait_on_disk(
    server: ServerProcess, client: KurrentDBClient, name: str
) -> None:
    """A group with 30 events in flight, and a group of links to one: 120 MB that nobody reads."""
    count, size = 30, 4_000_000
    for _ in range(count):
        client.append_to_stream(name, current_version=ANY, events=NewEvent("A", b"x" * size))
    links = [
        NewEvent("$>", f"{n}@{name}".encode(), content_type="application/octet-stream")
        for n in range(count)
    ]
    client.append_to_stream(name + "-links", current_version=ANY, events=links)
    before = memory_of(server)
    client.create_subscription_to_stream("g", name)
    with (
        client.read_subscription_to_stream("g", name) as group,
        client.read_stream(name + "-links", resolve_links=True) as resolved,
    ):
        assert (next(group).stream_position, next(resolved).stream_position) == (0, 0)
        until(lambda: client.get_subscription_info("g", name).outstanding_messages_count == count)
        assert memory_of(server) - before < 64
        assert [e.stream_position for e in take(group, count - 1)] == list(range(1, count))
    client.delete_subscription("g", name)
