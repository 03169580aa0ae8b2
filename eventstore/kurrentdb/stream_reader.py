"""Short reads of streams, many at a time: how aggregates come into memory."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import grpc
from kurrentdbclient.common import handle_rpc_error
from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.errors import StreamTombstoned
from eventstore.kurrentdb.connection import is_passing, refused
from eventstore.kurrentdb.sync_client import Responses, SyncClient, decoded
from eventstore.records import RawRecord

Found: TypeAlias = list[RawRecord] | Exception


class _Read(NamedTuple):
    request: streams_pb2.ReadReq
    found: asyncio.Future[Found]

    @property
    def stream(self) -> str:
        name: bytes = self.request.options.stream.stream_identifier.stream_name
        return name.decode()


_Answers: TypeAlias = deque[tuple[_Read, Found]]
"""The answers that a burst's thread passes to the event loop."""

LONGEST = 256
"""The most events of a short read, which is held in memory as a whole."""

BURST = 32
"""Reads that one thread starts together, before it takes the first answer. Most of the cost of a
read is switching to the waiting thread and back: 32 reads of five events, one by one in 16 threads,
took 690 µs of CPU each and 180 in the store; started together by one thread, 130 and 68."""

LATE = 0.05
"""Seconds after which the next burst no longer waits for the one before, and the answers that a
burst has are delivered without waiting for the others."""

THREADS = 4
"""The most bursts at a time: all but the youngest are late."""

TIMEOUT = 10.0
"""Seconds for one read."""

LOOK_AGAIN = 0.1
"""Seconds before the cluster is asked again for its leader."""


class StreamReader:
    """Groups the reads that are requested while others run, and does each group in one thread."""

    def __init__(self, uri: str, patience: float = 0.0) -> None:
        """`patience`: for how many seconds a read is retried while a cluster has no leader."""
        self._uri = uri
        self._patience = patience
        self._client: SyncClient | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read")
        self._waiting: deque[_Read] = deque()
        self._bursts: set[asyncio.Task[None]] = set()
        self._youngest: asyncio.Task[None] | None = None
        """The burst that the next one waits for."""

    async def read(
        self, stream: str, *, after: int | None, backwards: bool, limit: int
    ) -> list[RawRecord]:
        """See `Log.read_stream`."""
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        request = _request(stream, after, backwards=backwards, limit=limit)
        self._waiting.append(_Read(request, found))
        self._begin()
        records = await found
        if isinstance(records, Exception):
            raise records
        return records

    def close(self) -> None:
        """Cancel all running reads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _begin(self) -> None:
        if self._waiting and self._youngest is None and len(self._bursts) < THREADS:
            burst = self._youngest = asyncio.create_task(self._burst())
            self._bursts.add(burst)
            burst.add_done_callback(self._bursts.discard)
            burst.add_done_callback(self._next)

    def _next(self, burst: asyncio.Task[None] | None) -> None:
        """Stop waiting for a burst, and start the next."""
        if self._youngest is burst:
            self._youngest = None
        self._begin()

    async def _burst(self) -> None:
        """Answer the waiting reads, at most `BURST` of them."""
        count = min(len(self._waiting), BURST)
        reads = [self._waiting.popleft() for _ in range(count)]
        answers: _Answers = deque()
        loop = asyncio.get_running_loop()
        try:
            reading = loop.run_in_executor(self._threads, self._read, reads, answers)
            while not reading.done():
                await asyncio.wait([reading], timeout=LATE)
                _settle(answers)
                if not reading.done():
                    self._next(asyncio.current_task())
            reading.result()
        except (Exception, asyncio.CancelledError) as error:  # the reader is closed, for instance
            answers.extend((read, refused(self._uri, error)) for read in reads)
        _settle(answers)

    def _read(self, reads: Sequence[_Read], answers: _Answers) -> None:
        """Do all reads; for a while, retry those that another node may be able to answer."""
        give_up = time.monotonic() + self._patience
        while True:
            again: list[_Read] = []
            for read, answer in self._once(reads):
                if _is_passing(answer) and time.monotonic() < give_up:
                    again.append(read)
                else:
                    answers.append((read, answer))
            reads = [read for read in again if not read.found.done()]  # the caller may have gone
            if not reads:
                return
            time.sleep(LOOK_AGAIN)

    def _once(self, reads: Sequence[_Read]) -> Iterator[tuple[_Read, Found]]:
        """Start all reads, then yield the answers: the records or the error."""
        calls: list[Responses] = []
        try:
            client = self._client
            if client is None:
                client = self._client = SyncClient(self._uri)
            for read in reads:
                calls.append(client.responses(read.request, TIMEOUT))
        except Exception as error:
            for call in calls:
                call.cancel()
            yield from [(read, self._failed(read, error, self._client)) for read in reads]
            return
        for read, responses in zip(reads, calls, strict=True):
            yield read, self._taken(read, responses, client)

    def _taken(self, read: _Read, responses: Responses, client: SyncClient) -> Found:
        try:
            found = [decoded(response) for response in responses]
        except Exception as error:  # any error concerns this read only
            return self._failed(read, error, client)
        return [record for record in found if isinstance(record, RawRecord)]

    def _failed(self, read: _Read, error: Exception, client: SyncClient | None) -> Exception:
        if _is_deleted(error):
            return StreamTombstoned(read.stream)
        if self._client is client:
            self._client = None  # the next read looks for the leader again
        failure = handle_rpc_error(error) if isinstance(error, grpc.RpcError) else error
        failed = refused(self._uri, failure)
        failed.__cause__ = failure
        return failed


def _settle(answers: _Answers) -> None:
    while answers:
        read, answer = answers.popleft()
        if not read.found.done():  # the caller may have gone away
            read.found.set_result(answer)


def _is_passing(answer: Found) -> bool:
    cause = answer.__cause__ if isinstance(answer, Exception) else None
    return cause is not None and is_passing(cause)


def _is_deleted(error: BaseException) -> bool:
    return (
        isinstance(error, grpc.Call)
        and error.code() is grpc.StatusCode.FAILED_PRECONDITION
        and "is deleted" in (error.details() or "")
    )


def _request(stream: str, after: int | None, *, backwards: bool, limit: int) -> streams_pb2.ReadReq:
    options = streams_pb2.ReadReq.Options()
    options.stream.stream_identifier.stream_name = stream.encode()
    if after is not None:
        options.stream.revision = after - 1 if backwards else after + 1
    elif backwards:
        options.stream.end.SetInParent()
    else:
        options.stream.start.SetInParent()
    if backwards:
        options.read_direction = streams_pb2.ReadReq.Options.Backwards
    options.count = limit
    options.no_filter.SetInParent()
    options.uuid_option.string.SetInParent()
    return streams_pb2.ReadReq(options=options)
