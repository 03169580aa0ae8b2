"""Short reads of streams, many at a time: how aggregates come into memory."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from kurrentdbclient.common import handle_rpc_error
from kurrentdbclient.exceptions import KurrentDBClientError
from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.errors import StreamTombstoned
from eventstore.kurrentdb.connection import is_passing, refused
from eventstore.kurrentdb.sync_client import SyncClient, decoded
from eventstore.records import RawRecord

LONGEST = 256
"""Events of a read that is short: it is held in memory whole."""

THREADS = 16
"""More of them make a read cheaper, as more answers are taken at a wake-up: 8 needed 290 µs of CPU
for five events and the store 115, these 220 and 82, 32 no less."""

TIMEOUT = 10.0
"""Seconds for one read."""

LOOK_AGAIN = 0.1
"""Seconds before the cluster is asked once more who leads."""


class StreamReader:
    """A few threads that read, for less CPU than the asynchronous client takes."""

    def __init__(self, uri: str, patience: float = 0.0) -> None:
        """`patience` is in seconds: how long a cluster is asked again while none leads."""
        self._uri = uri
        self._patience = patience
        self._client: SyncClient | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read")

    async def read(
        self, stream: str, *, after: int | None, backwards: bool, limit: int
    ) -> list[RawRecord]:
        """See `Log.read_stream`."""
        request = _request(stream, after, backwards=backwards, limit=limit)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, request)

    def close(self) -> None:
        """Break off the reads that are on their way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _read(self, request: streams_pb2.ReadReq) -> list[RawRecord]:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                client = self._client
                if client is None:
                    client = self._client = SyncClient(self._uri)
                found = [decoded(response) for response in client.responses(request, TIMEOUT)]
            except (grpc.RpcError, KurrentDBClientError, OSError, ValueError) as error:
                failure = handle_rpc_error(error) if isinstance(error, grpc.RpcError) else error
                if _is_deleted(error):
                    raise StreamTombstoned(_stream_of(request)) from error
                self._client = None  # the next read asks again who leads
                if not is_passing(failure) or time.monotonic() > deadline:
                    raise refused(self._uri, failure) from error
                time.sleep(LOOK_AGAIN)
            else:
                return [record for record in found if isinstance(record, RawRecord)]


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
