"""The process: its one line, its exit codes, its stop, and what a restart finds."""

import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import KurrentDBClientError

from eventstore.embedded.storage.schema import SCHEMA_VERSION
from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.log import EventLog
from tests.contract.eventstore.making import event, events, take, until
from tests.contract.eventstore.process import ServerProcess

Start = Callable[..., ServerProcess]
ANY = StreamState.ANY


def test_it_prints_its_connection_string_and_stops_on_sigterm(start: Start) -> None:
    server = start()
    assert server.line == f"kdb://{server.target}?Tls=false\n"
    assert server.stop() == (0, "")


def test_a_second_server_on_the_folder_is_refused(start: Start) -> None:
    first = start()
    code, errors = start().outcome()
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.endswith("is in use by another server: give another --data\n")
    first.stop()


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = ServerProcess(tmp_path, port).outcome()
    assert outcome == (2, f"eventstore: port {port} is taken: give another --port\n")


def test_everything_is_there_after_a_restart(start: Start, name: str) -> None:
    new = {expected: events(3) for expected in (ANY, StreamState.NO_STREAM)}
    first = start()
    with KurrentDBClient(first.uri) as client:
        positions = {
            expected: client.append_to_stream(
                f"{name}-{expected}", current_version=expected, events=batch
            )
            for expected, batch in new.items()
        }
        client.set_stream_metadata(name, metadata={"$maxCount": 1})
        client.append_to_stream(name, current_version=ANY, events=events(4))
        before = [(e.id, e.commit_position) for e in client.read_all(filter_exclude=())]
    first.stop()
    with KurrentDBClient(start().uri) as client:
        assert [(e.id, e.commit_position) for e in client.read_all(filter_exclude=())] == before
        for expected, batch in new.items():
            again = client.append_to_stream(
                f"{name}-{expected}", current_version=expected, events=batch
            )
            assert again == positions[expected]
        assert [e.stream_position for e in client.get_stream(name)] == [3]
        assert client.append_to_stream(name, current_version=3, events=[event()]) > before[-1][1]


def test_a_stop_finishes_what_it_acknowledged(start: Start, name: str) -> None:
    first = start()
    acknowledged: list[int] = []

    def write(number: int) -> None:
        with KurrentDBClient(first.uri) as client:
            try:
                for _ in range(10_000):
                    client.append_to_stream(
                        f"{name}-{number}", current_version=ANY, events=[event()]
                    )
                    acknowledged.append(number)
            except KurrentDBClientError:
                pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(acknowledged) > 50)
    assert first.stop()[0] == 0
    for thread in threads:
        thread.join(30)
    with KurrentDBClient(start().uri) as client:
        for number in range(4):
            written = len(client.get_stream(f"{name}-{number}"))
            assert acknowledged.count(number) <= written <= acknowledged.count(number) + 1


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, 99])
def test_a_store_of_another_schema_is_refused_in_one_line(
    start: Start, tmp_path: Path, version: int
) -> None:
    start().stop()
    with closing(sqlite3.connect(tmp_path / "store" / "events.sqlite")) as db:
        db.execute(f"PRAGMA user_version={version}")
    code, errors = start().outcome()
    assert (code, errors.count("\n")) == (2, 1)


def test_system_projections_link_each_event_once(start: Start) -> None:
    first = start("--system-projections")
    with KurrentDBClient(first.uri) as client:
        client.append_to_stream("order-1", current_version=ANY, events=events(2, "Placed"))
        client.append_to_stream("order-2-x", current_version=ANY, events=events(1, "Paid"))
        client.append_to_stream("plain", current_version=ANY, events=events(1, "Paid"))
        with client.subscribe_to_stream("$ce-order", resolve_links=True) as subscription:
            got = take(subscription, 3)
        assert [(e.stream_name, e.stream_position) for e in got] == [
            ("order-1", 0),
            ("order-1", 1),
            ("order-2-x", 0),
        ]
        first.kill()
    second = start("--system-projections")
    with KurrentDBClient(second.uri) as client:
        client.append_to_stream("order-1", current_version=ANY, events=events(1, "Paid"))
        paid = until(
            lambda: (p := client.get_stream("$et-Paid", resolve_links=True)) and len(p) == 3 and p
        )
        assert [e.stream_name for e in paid] == ["order-2-x", "plain", "order-1"]
        assert [e.data for e in client.get_stream("$streams")] == [
            b"0@order-1",
            b"0@order-2-x",
            b"0@plain",
        ]
        assert all(not e.type.startswith("$") for e in client.read_all())


async def test_a_stopped_store_is_told_by_a_timeout(start: Start) -> None:
    server = start()
    log = EventLog(server.uri)
    assert await log.end_position(["order-"]) == 0
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable, match="no answer within"):
            await log.end_position(["order-"])
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert await log.end_position(["order-"]) == 0
    await log.close()
