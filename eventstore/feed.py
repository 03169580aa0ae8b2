"""A long read of `$all`, by a thread of its own: what the log sends arrives in batches.

A message costs `grpc.aio` some 50 µs of CPU and the client's asynchronous iterator as
much again. The synchronous client on a channel that does without gRPC's own thread
(`SingleThreadedUnaryStream`), its messages taken as they come, needs a seventh of that;
and every replica and every projector pays it for every event. So long reads go that way,
and everything else through the asynchronous client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, NamedTuple

import grpc
from grpc.experimental import ChannelOptions
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from eventstore.errors import StoreUnavailable
from eventstore.records import RawRecord

MOST = 4_000
"""Events that wait for their consumer; beyond that the thread waits, and by HTTP/2 the store."""

LONGEST_PAUSE = 0.01
PAUSE_PER_RATE = 5e-6
"""Seconds between two batches at least, for each event a second, up to `LONGEST_PAUSE`.

Handing a batch over costs two switches between threads. At 300 events a second that is a
pause of 1.5 ms, which nobody waits for; at 2,000 batches have 20 events and are worth it.
"""

WINDOW = 30
INTERVAL = 5
"""A filtered subscription says how far it has looked every `WINDOW * INTERVAL` records."""

KEEPALIVE = (("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000))
"""A subscription may be silent for hours: so a store that vanished is noticed."""


class Sign(NamedTuple):
    """What a subscription says between events: how far it has looked.

    `live` says whether that is the log's end, where the sign says so at all.
    """

    position: int
    live: bool | None


Items = list[RawRecord | Sign]


async def feed(
    uri: str, prefixes: Sequence[str], after: int | None, *, live: bool, gather: float = 0.0
) -> AsyncGenerator[Items, None]:
    """Events of streams whose names begin so, after that position, in batches.

    `live` goes on for ever, with signs in between. Without it the read ends at the log's
    end, and begins with the event at `after` itself. `gather`: see `Log.subscribe`.

    Raises:
        StoreUnavailable: no answer, or the read broke off.
    """
    reading = _Reading(uri, _request(prefixes, after, live=live), gather)
    try:
        while (batch := await reading.take()) is not None:
            yield batch
    finally:
        reading.stop()


class _Reading:
    """The thread, and the buffer between it and the loop."""

    def __init__(self, uri: str, request: streams_pb2.ReadReq, gather: float) -> None:
        self._uri = uri
        self._gather = gather
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._taken_at = self._loop.time()
        self._pause = 0.0
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        # Under the lock, from here on.
        self._items: Items = []
        self._told = False
        self._ended = False
        self._error: Exception | None = None
        self._stopped = False
        self._responses: Any = None
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    async def take(self) -> Items | None:
        """All that has arrived, as soon as there is something; None at the end.

        Raises:
            StoreUnavailable: see `feed`.
        """
        while True:
            await self._filled.wait()
            with self._lock:
                self._filled.clear()
                self._told = False
                items, self._items = self._items, []
                self._room.notify()
                ended, error = self._ended, self._error
                if ended and items:
                    self._filled.set()  # the end is said after the last of them
            if items:
                self._breathe(len(items))
                return items
            if error is not None:
                raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
            if ended:
                return None

    def stop(self) -> None:
        """Ends the read; the thread follows."""
        with self._lock:
            self._stopped = True
            self._room.notify()
            responses = self._responses
        if responses is not None:
            responses.cancel()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with _StreamClient(self._uri) as client:
                self._pump(client)
        except Exception as failure:
            # Whatever it was: a reader that nobody hears of would stand still for ever.
            error = failure
        with self._lock:
            self._ended, self._error = True, error
            self._tell()

    def _pump(self, client: KurrentDBClient) -> None:
        streams = client.streams
        responses: Iterable[streams_pb2.ReadResp] = streams._stub.Read(
            self._request,
            metadata=streams._metadata(client._call_metadata),
            credentials=client._call_credentials,
        )
        with self._lock:
            self._responses = responses
            if self._stopped:
                return
        for response in responses:
            item = _decoded(response)
            if item is None:
                continue
            with self._lock:
                self._items.append(item)
                if not self._told:
                    self._tell()
                while len(self._items) >= MOST and not self._stopped:
                    self._room.wait()
                if self._stopped:
                    return

    def _tell(self) -> None:
        self._told = True
        if not self._stopped:  # the loop may be gone with the consumer
            self._loop.call_soon_threadsafe(self._wake)

    def _breathe(self, events: int) -> None:
        now = self._loop.time()
        rate = events / max(now - self._taken_at, 1e-4)
        self._pause = max(min(rate * PAUSE_PER_RATE, LONGEST_PAUSE), self._gather)
        self._taken_at = now

    def _wake(self) -> None:
        early = self._taken_at + self._pause - self._loop.time()
        if early > 0:
            self._loop.call_later(early, self._filled.set)
        else:
            self._filled.set()


class _StreamClient(KurrentDBClient):
    """The client, on channels that are read in one thread."""

    def _construct_grpc_channel(
        self, grpc_target: str, grpc_options: tuple[tuple[str, Any], ...] = ()
    ) -> grpc.Channel:
        single = ((ChannelOptions.SingleThreadedUnaryStream, 1),)
        return super()._construct_grpc_channel(grpc_target, grpc_options + single + KEEPALIVE)


def _request(prefixes: Sequence[str], after: int | None, *, live: bool) -> streams_pb2.ReadReq:
    options = streams_pb2.ReadReq.Options()
    if after is None:
        options.all.start.SetInParent()
    else:
        options.all.position.commit_position = options.all.position.prepare_position = after
    if live:
        options.subscription.SetInParent()
    else:
        options.count = 2**63 - 1
    options.filter.stream_identifier.prefix.extend(prefixes)
    options.filter.max = WINDOW
    options.filter.checkpointIntervalMultiplier = INTERVAL
    options.uuid_option.string.CopyFrom(shared_pb2.Empty())
    return streams_pb2.ReadReq(options=options)


def _decoded(response: streams_pb2.ReadResp) -> RawRecord | Sign | None:
    content = response.WhichOneof("content")
    if content == "event":
        event = response.event.event
        kept = event.metadata
        return RawRecord(
            kept["type"],
            event.data,
            event.custom_metadata,
            event.stream_identifier.stream_name.decode(),
            event.stream_revision,
            event.commit_position,
            int(kept["created"]),
        )
    if content == "checkpoint":
        return Sign(response.checkpoint.commit_position, None)
    if content == "caught_up":
        return Sign(response.caught_up.position.commit_position, True)
    if content == "fell_behind":
        return Sign(response.fell_behind.position.commit_position, False)
    return None
