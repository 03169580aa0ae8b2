"""Many callers at once, crashes between a write and its answer, and clocks that step back."""

import asyncio
import socket
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from kurrentdbclient import KurrentDBClient, StreamState
from kurrentdbclient.exceptions import NotFoundError
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2
from kurrentdbclient.protos.v2.streams import streams_pb2 as v2

from eventstore.embedded.http2 import frames, hpack
from eventstore.embedded.http2.call import Http2Call
from eventstore.embedded.http2.connection import Connection
from eventstore.embedded.storage import write_transaction
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.operations import Append
from eventstore.embedded.storage.schema import prepare
from eventstore.embedded.storage.stream_names import StreamNames
from eventstore.embedded.storage.write_transaction import WriteTransaction
from tests.contract.eventstore.making import event, events, until
from tests.contract.eventstore.process import ServerProcess

ANY, NO_STREAM, EXISTS = StreamState.ANY, StreamState.NO_STREAM, StreamState.EXISTS
APPEND_RECORDS = "/kurrentdb.protocol.v2.streams.StreamsService/AppendRecords"
READ = "/event_store.client.streams.Streams/Read"


def append_request(stream: str, expected: int | None = None) -> bytes:
    message = v2.AppendRecordsRequest()
    record = message.records.add(stream=stream, data=b"{}", record_id=str(uuid.uuid4()))
    record.schema.name = "Happened"
    record.schema.format = v2.SCHEMA_FORMAT_JSON
    if expected is not None:
        check = message.checks.add()
        check.stream_state.stream = stream
        check.stream_state.expected_state = expected
    return message.SerializeToString()


def read_request(stream: str, *, subscribe: bool) -> bytes:
    options = streams_pb2.ReadReq.Options(no_filter=shared_pb2.Empty())
    options.stream.stream_identifier.stream_name = stream.encode()
    options.stream.start.SetInParent()
    options.uuid_option.string.SetInParent()
    if subscribe:
        options.subscription.SetInParent()
    else:
        options.count = 100
    return streams_pb2.ReadReq(options=options).SerializeToString()


def test_128_writers_of_one_stream(
    client: KurrentDBClient, channel: grpc.Channel, name: str
) -> None:
    append = channel.unary_unary(
        APPEND_RECORDS, response_deserializer=v2.AppendRecordsResponse.FromString
    )
    answers = [append.future(append_request(name)) for _ in range(128)]
    positions = {answer.result().position for answer in answers}
    written = client.get_stream(name)
    assert [e.stream_position for e in written] == list(range(128))
    assert {e.commit_position for e in written} == positions


def test_of_128_appends_at_the_same_expected_revision_one_succeeds(
    client: KurrentDBClient, channel: grpc.Channel, name: str
) -> None:
    append = channel.unary_unary(APPEND_RECORDS)
    answers = [append.future(append_request(name, -1)) for _ in range(128)]
    codes = [answer.code() for answer in answers]
    assert codes.count(grpc.StatusCode.OK) == 1
    assert codes.count(grpc.StatusCode.FAILED_PRECONDITION) == 127
    assert len(client.get_stream(name)) == 1


async def test_a_thousand_subscriptions_see_one_event(server: ServerProcess, name: str) -> None:
    async with grpc.aio.insecure_channel(server.target) as channel:
        read = channel.unary_stream(READ, response_deserializer=streams_pb2.ReadResp.FromString)
        calls = [read(read_request(name, subscribe=True)) for _ in range(1_000)]
        for call in calls:
            assert (await call.read()).WhichOneof("content") == "confirmation"
        await channel.unary_unary(APPEND_RECORDS)(append_request(name))

        async def first_event(call: grpc.aio.UnaryStreamCall) -> int:
            while (answer := await call.read()).WhichOneof("content") != "event":
                pass
            return int(answer.event.event.stream_revision)

        async with asyncio.timeout(30):
            assert set(await asyncio.gather(*map(first_event, calls))) == {0}
        for call in calls:
            call.cancel()


@pytest.mark.parametrize("expected", [ANY, NO_STREAM, EXISTS, 1])
def test_a_resend_after_a_crash_answers_as_the_first(
    start: Callable[..., ServerProcess], name: str, expected: StreamState | int
) -> None:
    new = events(3)
    first = start()
    with KurrentDBClient(first.uri) as client:
        if expected in (EXISTS, 1):
            client.append_to_stream(name, current_version=ANY, events=events(2))
        written = client.append_to_stream(name, current_version=expected, events=new)
    first.kill()
    with KurrentDBClient(start().uri) as client:
        length = len(client.get_stream(name))
        again = client.append_to_stream(name, current_version=expected, events=new)
        assert (again, len(client.get_stream(name))) == (written, length)


def test_an_answer_waits_for_the_end_of_its_request(server: ServerProcess, name: str) -> None:
    """Otherwise the server would reset the stream, and Rust's client would take it for broken."""
    host, port = server.target.split(":")
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", READ.encode())]
    headers.append((b"content-type", b"application/grpc"))
    message = read_request(name, subscribe=False)
    body = b"\0" + len(message).to_bytes(4, "big") + message
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            frames.PREFACE
            + frames.settings({})
            + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, hpack.encode(headers))
            + frames.frame(frames.DATA, 0, 1, body)
            + frames.frame(frames.PING, 0, 0, b"answered")
        )
        seen = b""
        while b"answered" not in seen:
            seen += connection.recv(65536)
        assert kinds_on_stream(seen, 1) == []
        connection.sendall(frames.frame(frames.DATA, frames.END_STREAM, 1))
        seen = b""
        while not kinds_on_stream(seen, 1)[2:]:
            seen += connection.recv(65536)
        assert kinds_on_stream(seen, 1) == [frames.HEADERS, frames.DATA, frames.HEADERS]


def kinds_on_stream(received: bytes, stream: int) -> list[int]:
    kinds = []
    at = 0
    while at + 9 <= len(received):
        kind = received[at + 3]
        on_stream = int.from_bytes(received[at + 5 : at + 9], "big")
        if on_stream == stream and kind != frames.WINDOW_UPDATE:
            kinds.append(kind)
        at += 9 + int.from_bytes(received[at : at + 3], "big")
    return kinds


def test_errors_about_groups_with_non_ascii_names_arrive(client: KurrentDBClient) -> None:
    with pytest.raises(NotFoundError):
        client.get_subscription_info("größe-日本", "straße-日本")
    with pytest.raises(NotFoundError):
        client.read_subscription_to_stream("größe-日本", "straße-日本")


def test_a_filter_may_use_a_lookahead(client: KurrentDBClient, name: str) -> None:
    client.append_to_stream(name, current_version=ANY, events=[event("Kept"), event("Dropped")])
    after = client.get_stream(name)[0].commit_position
    pattern = rf"{name}(?!-other)"
    client.append_to_stream(name + "-other", current_version=ANY, events=[event("Kept")])
    got = client.read_all(
        commit_position=after, filter_include=[pattern], filter_by_stream_name=True
    )
    assert [e.type for e in got] == ["Kept", "Dropped"]


def test_times_do_not_step_back_with_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor after a restart, if the clock was set back; but they do if it was years ahead."""
    now = 2_000_000_000_000_000_000
    monkeypatch.setattr(write_transaction.time, "time_ns", lambda: now)
    db = sqlite3.connect(":memory:", isolation_level=None)
    prepare(db)
    transaction = WriteTransaction(db, StreamNames(db))
    created = []
    hour, year = 3_600_000_000_000, 365 * 24 * 3_600_000_000_000
    for step, restart in ((0, False), (-hour, False), (0, True), (0, False), (-year, False)):
        now += step
        if restart:
            transaction = WriteTransaction(db, StreamNames(db))
        transaction.begin()
        Append("s", -2, [Proposed(uuid.uuid4().bytes, "T", True, b"{}", b"")]).apply(transaction)
        transaction.finish()
        created.append(transaction.staged[0].created)
    assert created == [20_000_000_000_000_000] * 4 + [now // 100]


def test_a_port_taken_by_a_server_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    second = ServerProcess(tmp_path / "other", int(server.target.rpartition(":")[2]))
    code, errors = second.outcome()
    assert (code, errors.count("\n")) == (2, 1)


def test_a_slow_reader_of_large_events_delays_no_other_call(
    client: KurrentDBClient, channel: grpc.Channel, name: str
) -> None:
    large = [event(data=b"x" * 1_000_000) for _ in range(12)]
    client.append_to_stream(name, current_version=ANY, events=large)
    slow = channel.unary_stream(READ)(read_request(name, subscribe=True))
    next(slow)
    client.append_to_stream(name + "-b", current_version=ANY, events=events(100))
    assert until(lambda: len(client.get_stream(name + "-b"))) == 100
    assert sum(len(next(slow)) for _ in range(12)) > 12_000_000
    slow.cancel()


class FullSocket(asyncio.Transport):
    """Takes what it is given, and from a size on says that it is full."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.taken = 0
        self.full = asyncio.Event()
        self.is_read = True
        self._connection = connection
        self._high = 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high or 0

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def write(self, data: bytes) -> None:
        self.taken += len(data)
        if self.taken > self._high:
            self.full.set()
            self._connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.taken

    def is_closing(self) -> bool:
        return False


async def test_a_huge_flow_control_window_does_not_buffer_a_whole_read_in_memory() -> None:
    calls: list[Http2Call] = []

    def dispatch(connection: Connection, stream: int, headers: object, ended: bool) -> None:
        call = Http2Call(connection, stream, {}, 1 << 20)
        connection.calls[stream] = call
        calls.append(call)

    connection = Connection(dispatch, set(), lambda _: True)
    full = FullSocket(connection)
    connection.connection_made(full)
    connection.data_received(
        frames.PREFACE
        + frames.settings({frames.SETTING_INITIAL_WINDOW: frames.MAX_WINDOW})
        + frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW)
        + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, hpack.encode([(b":path", b"/")]))
    )

    async def read_of_64_mb() -> None:
        for _ in range(64):
            await calls[0].write(bytes(1_000_000))

    reading = asyncio.create_task(read_of_64_mb())
    async with asyncio.timeout(10):
        await full.full.wait()
        assert full.taken < 4_000_000
        assert not reading.done()
        assert not full.is_read
        while not reading.done():
            connection.resume_writing()
            await asyncio.sleep(0)
        assert full.is_read
    await reading
    connection.connection_lost(None)
    assert full.taken > 64_000_000


async def test_thousands_of_settings_frames_at_once_go_through_the_calls_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With thousands of calls too, nobody else would be served meanwhile."""
    pushed: list[int] = []
    push = Connection.push

    def counted(connection: Connection, call: Http2Call) -> None:
        pushed.append(call.stream)
        push(connection, call)

    def dispatch(connection: Connection, stream: int, headers: object, ended: bool) -> None:
        connection.calls[stream] = Http2Call(connection, stream, {}, 1 << 20)

    monkeypatch.setattr(Connection, "push", counted)
    connection = Connection(dispatch, set(), lambda _: True)
    connection.connection_made(FullSocket(connection))
    block = hpack.encode([(b":path", b"/")])
    calls = [frames.frame(frames.HEADERS, frames.END_HEADERS, at, block) for at in (1, 3, 5)]
    windows = [frames.settings({frames.SETTING_INITIAL_WINDOW: at % 2}) for at in range(1000)]
    connection.data_received(frames.PREFACE + b"".join([*calls, *windows]))
    assert pushed == [1, 3, 5]
    writing = asyncio.create_task(connection.calls[3].write(b"what"))
    await asyncio.sleep(0)
    assert len(connection.calls[3].out) == 8  # the window of each call is one byte by now
    connection.data_received(frames.settings({frames.SETTING_INITIAL_WINDOW: 9}))
    assert not connection.calls[3].out
    connection.connection_lost(None)
    await asyncio.gather(writing, return_exceptions=True)
