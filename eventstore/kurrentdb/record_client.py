"""Reads by the asynchronous client that give records as the server sent them.

The client converts an event's time to a float, which is sometimes off by a microsecond, so that two
ways of reading would differ. It also makes a dataclass and a UUID of each event.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from kurrentdbclient.asyncio_client import autoreconnect, retrygrpc
from kurrentdbclient.protos.v1 import streams_pb2
from kurrentdbclient.streams import AsyncReadResponse

from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.connection import AsyncClient
from eventstore.kurrentdb.sync_client import decoded
from eventstore.records import RawRecord

_CUT = "the connection ended before all was read"


class Records(AsyncReadResponse):
    """The client's iterator, with the client's errors, but of records.

    When another call makes the client reconnect, that stops this iterator. The client's own would
    then end without an error, even if some received records were not yielded yet.
    """

    _reader: asyncio.Task[Any] | None = None
    """The task that waits for the next record."""
    _was_cut = False

    async def stop(self, **how: Any) -> None:
        """Stop: called by the reading task at the end or on an error, else by another call."""
        self._was_cut = self._was_cut or asyncio.current_task() is not self._reader
        await super().stop(**how)

    async def __anext__(self) -> Any:
        if self._was_cut:
            raise StoreUnavailable(_CUT)
        self._reader = asyncio.current_task()
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            call = self._unary_stream_call
            if self._was_cut or not call.done() or await call.code() is not grpc.StatusCode.OK:
                raise StoreUnavailable(_CUT) from None
            raise
        finally:
            self._reader = None

    def _convert_read_resp(self, read_resp: streams_pb2.ReadResp) -> Any:
        if read_resp.WhichOneof("content") == "event":
            return decoded(read_resp)
        return super()._convert_read_resp(read_resp)

    def _filter_recorded_event(self, recorded_event: Any) -> Any:
        return recorded_event if isinstance(recorded_event, RawRecord) else None


class RecordClient(AsyncClient):
    """The client, with a method that reads records."""

    @retrygrpc
    @autoreconnect
    async def read_records(self, **options: Any) -> Records:
        """Begin to read; the options are those of `read_stream` and `read_all`."""
        streams = self.connection.streams
        call = streams._stub.Read(
            streams._construct_read_request(**options),
            metadata=streams._metadata(self._call_metadata),
            credentials=self._call_credentials,
        )
        records = Records(call, options.get("stream_name"), streams._grpc_streamers)
        await records.add_to_steamers()
        return records
