"""Streams of events by the synchronous client, for a thread: a third of the CPU.

A message costs some 50 µs in `grpc.aio` and as much again in the client's asynchronous iterator.
The synchronous client, on a channel without gRPC's own thread (`SingleThreadedUnaryStream`) and
with its messages used as they are, needs some 30 in all. Every replica and every projector has
that cost for every event, and a host for every aggregate that it loads. See `docs/adr/0008`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import grpc
from grpc.experimental import ChannelOptions
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.connection import KurrentDBConnection
from kurrentdbclient.events import RecordedEvent
from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.kurrentdb.connection import Reaching, without_the_dead
from eventstore.records import RawRecord, ticks_of


class Responses(Protocol):
    """An iterator of the server's responses; any thread may `cancel` it."""

    def __iter__(self) -> Iterator[streams_pb2.ReadResp]:
        """Iterate; raise `grpc.RpcError` when the call breaks off."""
        ...

    def cancel(self) -> Any:
        """End the call: the iteration then raises."""
        ...


class Progress(NamedTuple):
    """What a subscription reports between events: the position that it has reached.

    `live` says whether that is the log's end, if the server reports it.
    """

    position: int
    live: bool | None


class SyncClient(KurrentDBClient, Reaching):
    """The client, on channels that are read in one thread."""

    def _construct_esdb_connection(
        self, grpc_target: str, grpc_options: tuple[tuple[str, Any], ...] = ()
    ) -> KurrentDBConnection:
        return without_the_dead(super()._construct_esdb_connection(grpc_target, grpc_options))

    def _construct_grpc_channel(
        self, grpc_target: str, grpc_options: tuple[tuple[str, Any], ...] = ()
    ) -> grpc.Channel:
        single = ((ChannelOptions.SingleThreadedUnaryStream, 1),)
        return super()._construct_grpc_channel(grpc_target, grpc_options + single)

    def responses(self, request: streams_pb2.ReadReq, timeout: float | None = None) -> Responses:
        """Begin a read; `timeout` is in seconds, for all of it."""
        streams = self.streams
        responses: Responses = streams._stub.Read(
            request,
            timeout=timeout,
            metadata=streams._metadata(self._call_metadata),
            credentials=self._call_credentials,
        )
        return responses


def decoded(response: streams_pb2.ReadResp) -> RawRecord | Progress | None:
    """Return the event or the progress in a response; None for anything else."""
    content = response.WhichOneof("content")
    if content == "event":
        event = response.event.event
        fields = event.metadata
        return RawRecord(
            fields["type"],
            event.data,
            event.custom_metadata,
            event.stream_identifier.stream_name.decode(),
            event.stream_revision,
            event.commit_position,
            int(fields["created"]),
        )
    if content == "checkpoint":
        return Progress(response.checkpoint.commit_position, None)
    if content == "caught_up":
        return Progress(response.caught_up.position.commit_position, True)
    if content == "fell_behind":
        return Progress(response.fell_behind.position.commit_position, False)
    return None


def raw_of(event: RecordedEvent) -> RawRecord:
    """Return the record of a client's event, whose time the client has converted to a float."""
    return RawRecord(
        event.type,
        event.data,
        event.metadata,
        event.stream_name,
        event.stream_position,
        event.commit_position,
        ticks_of(event.recorded_at) if event.recorded_at else 0,
    )
