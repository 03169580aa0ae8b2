"""Garbage: one caller gets an error or loses its connection, the others notice nothing."""

import random
import socket
from collections.abc import Iterator

import grpc
import pytest
from kurrentdbclient import KurrentDBClient, StreamState

from tests.contract.eventstore.making import event, events
from tests.contract.eventstore.process import ServerProcess

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


@pytest.fixture(autouse=True)
def others_notice_nothing(client: KurrentDBClient, name: str) -> Iterator[None]:
    client.append_to_stream(name, current_version=StreamState.ANY, events=events(2))
    subscription = client.subscribe_to_stream(name)
    next(subscription)
    yield
    client.append_to_stream(name, current_version=1, events=[event()])
    assert [next(subscription).stream_position for _ in range(2)] == [1, 2]
    subscription.stop()


BYTES = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a frame too large": PREFACE + SETTINGS + b"\xff\xff\xff\0\0\0\0\0\1",
    "headers that do not decode": PREFACE + SETTINGS + frame(1, 4, 1, b"\xff\xff\xff\xff\xff"),
    "an index of nothing": PREFACE + SETTINGS + frame(1, 4, 1, b"\x80"),
    "a huge integer": PREFACE + SETTINGS + frame(1, 4, 1, b"\x7f" + b"\xff" * 20),
    "an even stream": PREFACE + SETTINGS + frame(1, 4, 2, b"\x82"),
    "stream zero": PREFACE + SETTINGS + frame(0, 0, 0, b"x"),
    "data before headers": PREFACE + SETTINGS + frame(0, 0, 5, b"x"),
    "padding beyond the frame": PREFACE + SETTINGS + frame(1, 12, 1, b"\x20\x82"),
    "an interrupted header block": PREFACE + SETTINGS + frame(1, 0, 1, b"\x82") + SETTINGS,
    "a stray continuation": PREFACE + SETTINGS + frame(9, 4, 1, b"\x82"),
    "half a setting": PREFACE + frame(4, 0, 0, b"abc"),
    "a short ping": PREFACE + SETTINGS + frame(6, 0, 0, b"abc"),
    "a window that overflows": PREFACE + SETTINGS + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "a push": PREFACE + SETTINGS + frame(5, 4, 1, b"\0\0\0\2\x82"),
}


@pytest.mark.parametrize("sent", BYTES.values(), ids=BYTES.keys())
def test_a_connection_that_breaks_the_protocol_is_closed(
    server: ServerProcess, sent: bytes
) -> None:
    host, port = server.target.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(sent)
        while connection.recv(65536):
            pass


def test_random_frames(server: ServerProcess) -> None:
    host, port = server.target.split(":")
    chance = random.Random(1)
    for _ in range(100):
        sent = PREFACE + SETTINGS
        for _ in range(20):
            payload = chance.randbytes(chance.randrange(40))
            sent += frame(chance.randrange(12), chance.randrange(256), chance.randrange(4), payload)
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(sent)


PATHS = [
    "/event_store.client.streams.Streams/Append",
    "/event_store.client.streams.Streams/BatchAppend",
    "/event_store.client.streams.Streams/Read",
    "/event_store.client.streams.Streams/Delete",
    "/event_store.client.persistent_subscriptions.PersistentSubscriptions/Create",
    "/event_store.client.persistent_subscriptions.PersistentSubscriptions/Read",
    "/event_store.client.persistent_subscriptions.PersistentSubscriptions/List",
    "/event_store.client.persistent_subscriptions.PersistentSubscriptions/ReplayParked",
    "/kurrentdb.protocol.v2.streams.StreamsService/AppendRecords",
    "/kurrentdb.protocol.v2.streams.StreamsService/AppendSession",
]


@pytest.mark.parametrize("path", [path for path in PATHS if "Batch" not in path])
@pytest.mark.parametrize("message", [b"\xff\xff\xff", b"", b"\x0a\x02\x08", b"\x0a\x00"])
def test_garbage_messages(channel: grpc.Channel, path: str, message: bytes) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        list(channel.stream_stream(path)(iter([message]), timeout=10))
    assert refused.value.code() in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.NOT_FOUND,
    ), refused.value


def test_garbage_in_a_batch(channel: grpc.Channel) -> None:
    batch = channel.stream_stream(PATHS[1])
    with pytest.raises(grpc.RpcError) as refused:
        list(batch(iter([b"\xff\xff\xff"]), timeout=10))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(batch(iter([b"", b"\x0a\x00"]), timeout=10)) == []  # ids that were never opened


def test_a_message_above_the_limit(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        channel.stream_unary(PATHS[0])(iter([b"x" * 20_000_000]), timeout=10)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_stream_name_above_the_limit(client: KurrentDBClient) -> None:
    with pytest.raises(Exception, match="StreamName"):
        client.get_stream("x" * 70_000)


def test_compressed_messages_are_understood(server: ServerProcess, name: str) -> None:
    gzip = grpc.Compression.Gzip
    with grpc.insecure_channel(server.target, compression=gzip) as channel:
        call = channel.unary_unary("/event_store.client.gossip.Gossip/Read")
        assert call(b"\x1a\x80\x08" + b"x" * 1024)
