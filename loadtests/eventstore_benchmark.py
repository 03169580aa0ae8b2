"""Speed of the embedded event store, as ratios measured in one run on one machine.

    python -m loadtests.eventstore_benchmark [--events 1000000]

Prints: batches against single appends; batches against SQLite alone (same rows, same batches, same
durability); reading ``$all`` through the client against the client decoding the same responses
from memory, and against a server that sends them from memory; and how the cost an event grows with
the log. Absolute numbers are shown but say nothing elsewhere.

Decoding alone leaves out the client's gRPC, which costs 30 us a message and more than all the
rest, whatever sends the messages: frames of 16 KB or 256 KB, 32 messages a write or all at once
make no difference. The line below that ratio tells what it would be for the fastest server.
"""

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import grpc
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.common import construct_recorded_event
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2
from kurrentdbclient.protos.v2.streams import streams_pb2 as v2

from eventstore.embedded.http2.server import GrpcServer
from eventstore.embedded.protocol.call import Call, Methods
from eventstore.embedded.storage.schema import connect

BATCH = 128
SECONDS = 4.0
CALLERS = 4
ROUNDS = 40
DATA = b'{"order_id":"' + b"x" * 150 + b'"}'
APPEND_RECORDS = "/kurrentdb.protocol.v2.streams.StreamsService/AppendRecords"
READ = "/event_store.client.streams.Streams/Read"


@contextmanager
def server(data: Path) -> Iterator[str]:
    """Run a server; yield its connection string."""
    command = [sys.executable, "-m", "eventstore.embedded", "--port", "0", "--data", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def target(uri: str) -> str:
    """Return host and port of a connection string."""
    return uri.removeprefix("kdb://").split("?")[0]


def request(count: int) -> bytes:
    """Return an append of this number of events, each to its own stream with a revision check."""
    message = v2.AppendRecordsRequest()
    for _ in range(count):
        stream = f"order-{uuid.uuid4()}"
        record = message.records.add(record_id=str(uuid.uuid4()), data=DATA, stream=stream)
        record.schema.name = "OrderPlaced"
        record.schema.format = v2.SCHEMA_FORMAT_JSON
        record.properties["$correlationId"].string_value = stream
        check = message.checks.add()
        check.stream_state.stream = stream
        check.stream_state.expected_state = -1
    return message.SerializeToString()


def append_for(
    uri: str, size: int, seconds: float, results: "multiprocessing.Queue[float]"
) -> None:
    """Append one after the other, as one caller; report events per second."""
    with grpc.insecure_channel(target(uri)) as channel:
        append = channel.unary_unary(APPEND_RECORDS, None, None)
        # Created beforehand: the store is measured, not the creation of requests.
        requests = [request(size) for _ in range(int(seconds * max(60_000 // size // 10, 200)))]
        append(request(1))
        results.put(-1.0)
        started = time.perf_counter()
        sent = 0
        for raw in requests:
            append(raw)
            sent += 1
            if time.perf_counter() - started > seconds:
                break
        results.put(sent * size / (time.perf_counter() - started))


def appending(uri: str, size: int, callers: int) -> float:
    """Return events per second with this number of callers, each in its own process."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[float] = context.Queue()
    processes = [
        context.Process(target=append_for, args=(uri, size, SECONDS, results))
        for _ in range(callers)
    ]
    for process in processes:
        process.start()
    rates = [results.get() for _ in range(2 * callers)]
    for process in processes:
        process.join()
    return sum(rate for rate in rates if rate >= 0)


_PLAIN_TABLES = """
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    id BLOB NOT NULL,
    type INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    created INTEGER NOT NULL,
    resp BLOB NOT NULL
);
CREATE UNIQUE INDEX by_stream ON events (stream, revision, id);
CREATE INDEX by_id ON events (stream, id) WHERE revision >= 256;
"""


def sqlite_alone(folder: Path) -> float:
    """Return the events per second that SQLite commits.

    Rows are made beforehand; the tables index every name and id that has to be found.
    """
    db = connect(folder / "alone.sqlite", writer=True)
    db.executescript(_PLAIN_TABLES)
    db.execute("PRAGMA wal_autocheckpoint=1000")
    resp = request(1)[:400].ljust(500, b"x")
    rows = [(n, n, 0, uuid.uuid4().bytes, 1, 0, 0, resp) for n in range(1, int(60_000 * SECONDS))]
    streams = [(n, f"order-{uuid.uuid4()}") for n in range(1, len(rows) + 1)]
    started = time.perf_counter()
    at = 0
    while time.perf_counter() - started < SECONDS and at + BATCH <= len(rows):
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO streams VALUES (?,?)", streams[at : at + BATCH])
        db.executemany("INSERT INTO events VALUES (?,?,?,?,?,?,?,?)", rows[at : at + BATCH])
        db.execute("COMMIT")
        at += BATCH
    rate = at / (time.perf_counter() - started)
    db.close()
    return rate


def read_all_raw(uri: str, limit: int) -> list[bytes]:
    """Return the raw responses of a ``$all`` read."""
    options = streams_pb2.ReadReq.Options(count=limit, no_filter=shared_pb2.Empty())
    options.all.start.SetInParent()
    options.uuid_option.string.SetInParent()
    message = streams_pb2.ReadReq(options=options).SerializeToString()
    with grpc.insecure_channel(target(uri)) as channel:
        return list(channel.unary_stream(READ, None, None)(message))


def read_through_client(uri: str, limit: int) -> float:
    """Return the events per second that the client reads from ``$all``."""
    with KurrentDBClient(uri) as client:
        sum(1 for _ in client.read_all(filter_exclude=(), limit=1))
        started = time.perf_counter()
        count = sum(1 for _ in client.read_all(filter_exclude=(), limit=limit))
        return count / (time.perf_counter() - started)


def serve_from_memory(responses: list[bytes], ports: "multiprocessing.Queue[int]") -> None:
    """Serve only these responses: the cost of a read without the store's own."""

    async def answer(call: Call) -> None:
        await call.read()
        await call.write_many(responses)

    async def serve() -> None:
        transport = GrpcServer(Methods({}, {READ: answer}))
        ports.put(await transport.start("127.0.0.1", 0))
        await asyncio.Event().wait()

    asyncio.run(serve())


def read_from_memory(uri: str, limit: int) -> float:
    """Return the events per second that the client reads from a server with responses in memory."""
    context = multiprocessing.get_context("spawn")
    ports: multiprocessing.Queue[int] = context.Queue()
    responses = read_all_raw(uri, limit)
    process = context.Process(target=serve_from_memory, args=(responses, ports), daemon=True)
    process.start()
    memory = f"kdb://127.0.0.1:{ports.get()}?Tls=false"
    rate = max(read_through_client(memory, limit) for _ in range(3))
    process.kill()
    return rate


def decode_from_memory(uri: str, limit: int) -> float:
    """Return the events per second that the client decodes from responses in memory."""
    raw = read_all_raw(uri, limit)
    started = time.perf_counter()
    for message in raw:
        construct_recorded_event(streams_pb2.ReadResp.FromString(message).event)
    return len(raw) / (time.perf_counter() - started)


def fill(uri: str, upto: int) -> None:
    """Append until the log has this many events, one per stream."""
    with KurrentDBClient(uri) as client:
        missing = upto - client.get_commit_position()
    with grpc.insecure_channel(target(uri)) as channel:
        append = channel.unary_unary(APPEND_RECORDS, None, None)
        pending: list[grpc.Future[bytes]] = []
        for _ in range(max(missing, 0) // 1000):
            pending.append(append.future(request(1000)))
            if len(pending) >= CALLERS:
                pending.pop(0).result()
        for future in pending:
            future.result()


class Log:
    """A log of some size, and the cost per event there."""

    def __init__(self, uri: str, size: int) -> None:
        fill(uri, size)
        self.uri = uri
        self.costs: dict[str, list[float]] = {}
        """Microseconds per event of every call."""
        self._channel = grpc.insecure_channel(target(uri))
        self._client = KurrentDBClient(uri)
        self._append = self._channel.unary_unary(APPEND_RECORDS, None, None)
        self._stream = f"hot-{uuid.uuid4()}"
        message = v2.AppendRecordsRequest()
        for _ in range(500):
            record = message.records.add(stream=self._stream, data=DATA)
            record.schema.name = "Hot"
            record.schema.format = v2.SCHEMA_FORMAT_JSON
        self._append(message.SerializeToString())

    def measure(self) -> None:
        """Run one short round of each kind."""
        requests = iter([request(BATCH) for _ in range(5)])
        self._time("append", 5, BATCH, lambda: self._append(next(requests)))
        self._time("stream read", 2, 500, lambda: self._client.get_stream(self._stream))
        self._time("$all read", 1, 5_000, lambda: read_all_raw(self.uri, 5_000))

    def _time(self, kind: str, calls: int, events: int, call: Callable[[], object]) -> None:
        for _ in range(calls):
            started = time.perf_counter()
            call()
            cost = (time.perf_counter() - started) / events * 1e6
            self.costs.setdefault(kind, []).append(cost)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._channel.close()


def growth(folder: Path, large: int) -> None:
    """Print the median cost per event at 10,000 and at many events.

    Both logs exist at once and take turns by fractions of a second, so that other load affects
    both.
    """
    with server(folder / "small") as small_uri, server(folder / "large") as large_uri:
        small, grown = Log(small_uri, 10_000), Log(large_uri, large)
        for _ in range(ROUNDS):
            small.measure()
            grown.measure()
        small.close()
        grown.close()
    for kind, costs in small.costs.items():
        before, after = median(costs), median(grown.costs[kind])
        print(
            f"{kind:12} {before:7.1f} us/event at 10,000, {after:7.1f} at {large:,}: "
            f"ratio {after / before:5.2f}   (at most 1.3)"
        )


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the large log")
    large = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with server(data / "speed") as uri:
            single = appending(uri, 1, 1)
            batched = appending(uri, BATCH, 1)
            parallel = appending(uri, BATCH, 2)
            alone = sqlite_alone(data)
            read = max(read_through_client(uri, 20_000) for _ in range(3))
            served = read_from_memory(uri, 20_000)
            decoded = decode_from_memory(uri, 20_000)
        best = max(batched, parallel)
        print(f"append_records, 1 event a call           {single:8.0f} events/s")
        print(f"append_records, {BATCH} events a call       {batched:8.0f} events/s")
        print(f"the same, two callers                    {parallel:8.0f} events/s")
        print(f"SQLite alone, same batches               {alone:8.0f} events/s")
        print(f"$all through the client                  {read:8.0f} events/s")
        print(f"the client, served from memory           {served:8.0f} events/s")
        print(f"the client, decoding bytes in memory     {decoded:8.0f} events/s")
        print(f"ratio batch / single                     {batched / single:8.2f}   (at least 8)")
        print(f"ratio batch / SQLite alone               {best / alone:8.2f}   (at least 0.5)")
        print(f"ratio $all read / served from memory     {read / served:8.2f}   (at least 0.5)")
        print(f"ratio $all read / decoding alone         {read / decoded:8.2f}   (at least 0.5;")
        print(f"  from memory the client itself gets     {served / decoded:8.2f})", flush=True)
        growth(data, large)


if __name__ == "__main__":
    main()
