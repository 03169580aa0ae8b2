"""Short reads of streams, many at a time: how aggregates come into memory."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import grpc
from kurrentdbclient.common import handle_rpc_error
from kurrentdbclient.exceptions import KurrentDBClientError
from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.errors import StreamTombstoned
from eventstore.kurrentdb.connection import is_passing, refused
from eventstore.kurrentdb.sync_client import Responses, SyncClient, decoded
from eventstore.records import RawRecord

Found: TypeAlias = list[RawRecord] | Exception

LONGEST = 256
"""Events of a read that is short: it is held in memory whole."""

BURST = 32
"""Reads that one thread asks for together, before it takes the first answer. Most of what a read
costs is switching to whoever waits for it and back: 32 of five events, one by one in 16 threads,
took 690 µs of CPU each and the store 180; asked for together by one thread 130 and 68."""

LATE = 0.05
"""Seconds after which the next burst does not wait for the one before any more."""

THREADS = 4
"""Bursts at a time at most: each but the youngest is late."""

TIMEOUT = 10.0
"""Seconds for one read."""

LOOK_AGAIN = 0.1
"""Seconds before the cluster is asked once more who leads."""


class StreamReader:
    """Reads that are asked for while others are on their way travel together, in one thread."""

    def __init__(self, uri: str, patience: float = 0.0) -> None:
        """`patience` is in seconds: how long a cluster is asked again while none leads."""
        self._uri = uri
        self._patience = patience
        self._client: SyncClient | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read")
        self._waiting: deque[tuple[streams_pb2.ReadReq, asyncio.Future[Found]]] = deque()
        self._bursts: set[asyncio.Task[None]] = set()
        self._youngest: asyncio.Task[None] | None = None
        """The burst that the next one waits for."""

    async def read(
        self, stream: str, *, after: int | None, backwards: bool, limit: int
    ) -> list[RawRecord]:
        """See `Log.read_stream`."""
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        request = _request(stream, after, backwards=backwards, limit=limit)
        self._waiting.append((request, found))
        self._begin()
        records = await found
        if isinstance(records, Exception):
            raise records
        return records

    def close(self) -> None:
        """Break off the reads that are on their way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _begin(self) -> None:
        if self._waiting and self._youngest is None and len(self._bursts) < THREADS:
            burst = self._youngest = asyncio.create_task(self._burst())
            self._bursts.add(burst)
            late = asyncio.get_running_loop().call_later(LATE, self._next, burst)
            burst.add_done_callback(lambda _: late.cancel())
            burst.add_done_callback(self._bursts.discard)
            burst.add_done_callback(self._next)

    def _next(self, burst: asyncio.Task[None]) -> None:
        """Wait for that burst no more."""
        if self._youngest is burst:
            self._youngest = None
        self._begin()

    async def _burst(self) -> None:
        """Answer all that wait by now, `BURST` of them at most."""
        count = min(len(self._waiting), BURST)
        reads = [self._waiting.popleft() for _ in range(count)]
        requests = [request for request, _ in reads]
        loop = asyncio.get_running_loop()
        answers: Sequence[Found]
        try:
            answers = await loop.run_in_executor(self._threads, self._read, requests)
        except (Exception, asyncio.CancelledError) as error:  # the reader is closed, for instance
            answers = [refused(self._uri, error)] * count
        for (_, found), answer in zip(reads, answers, strict=True):
            if not found.done():  # who asked may have gone away
                found.set_result(answer)

    def _read(self, requests: Sequence[streams_pb2.ReadReq]) -> list[Found]:
        """Return what each read gives, or the error that it raises."""
        deadline = time.monotonic() + self._patience
        answers: dict[int, Found] = {}
        left = list(range(len(requests)))
        while True:
            answers |= zip(left, self._once([requests[at] for at in left]), strict=True)
            if time.monotonic() > deadline:
                break
            left = [at for at in left if (cause := _cause(answers[at])) and is_passing(cause)]
            if not left:
                break
            time.sleep(LOOK_AGAIN)
        return [answers[at] for at in range(len(requests))]

    def _once(self, requests: Sequence[streams_pb2.ReadReq]) -> list[Found]:
        """Ask for all of them, then take the answers."""
        try:
            client = self._client
            if client is None:
                client = self._client = SyncClient(self._uri)
            calls = [client.responses(request, TIMEOUT) for request in requests]
        except _FAILURES as error:
            return [self._failed(request, error, self._client) for request in requests]
        return [self._taken(*each, client) for each in zip(requests, calls, strict=True)]

    def _taken(
        self, request: streams_pb2.ReadReq, responses: Responses, client: SyncClient
    ) -> Found:
        try:
            found = [decoded(response) for response in responses]
        except _FAILURES as error:
            return self._failed(request, error, client)
        return [record for record in found if isinstance(record, RawRecord)]

    def _failed(
        self, request: streams_pb2.ReadReq, error: Exception, client: SyncClient | None
    ) -> Exception:
        if _is_deleted(error):
            return StreamTombstoned(_stream_of(request))
        if self._client is client:
            self._client = None  # the next read asks again who leads
        failure = handle_rpc_error(error) if isinstance(error, grpc.RpcError) else error
        failed = refused(self._uri, failure)
        failed.__cause__ = failure
        return failed


_FAILURES = (grpc.RpcError, KurrentDBClientError, OSError, ValueError)


def _cause(answer: Found) -> BaseException | None:
    return answer.__cause__ if isinstance(answer, Exception) else None


def _is_deleted(error: BaseException) -> bool:
    return (
        isinstance(error, grpc.Call)
        and error.code() is grpc.StatusCode.FAILED_PRECONDITION
        and "is deleted" in (error.details() or "")
    )


def _stream_of(request: streams_pb2.ReadReq) -> str:
    name: bytes = request.options.stream.stream_identifier.stream_name
    return name.decode()


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
