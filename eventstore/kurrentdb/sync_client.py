"""Streams of events by the synchronous client, for a thread: a third of the CPU.

A message costs `grpc.aio` some 50 µs and the client's asynchronous iterator as much again.
The synchronous client on a channel that does without gRPC's own thread
(`SingleThreadedUnaryStream`), its messages taken as they come, needs some 30 in all; and every
replica and every projector pays it for every event, a host for every aggregate that it
loads. See `docs/adr/0008`.
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
    """What the server sends, one after the other; `cancel`, by any thread, ends it."""

    def __iter__(self) -> Iterator[streams_pb2.ReadResp]:
        """Iterate; raise `grpc.RpcError` when the call breaks off."""
        ...

    def cancel(self) -> Any:
        """End the call: whoever iterates finds it broken off."""
        ...


class Progress(NamedTuple):
    """What a subscription says between events: how far it has looked.

    `live` says whether that is the log's end, where the server says so at all.
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
    """Return the record in an event of the client's, which made its time of a float."""
    return RawRecord(
        event.type,
        event.data,
        event.metadata,
        event.stream_name,
        event.stream_position,
        event.commit_position,
        ticks_of(event.recorded_at) if event.recorded_at else 0,
    )
