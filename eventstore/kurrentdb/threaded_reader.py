"""A long read of `$all`, by a thread of its own: what the log sends arrives in batches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.kurrentdb.connection import refused
from eventstore.kurrentdb.sync_client import Progress, SyncClient, decoded
from eventstore.records import RawRecord

MOST = 4_000
"""The most events that wait for their consumer; then the thread waits, and by HTTP/2 the store."""

LONGEST_PAUSE = 0.01
PAUSE_PER_RATE = 5e-6
"""The least seconds between two batches, times the events per second, up to `LONGEST_PAUSE`.

Passing a batch on costs two thread switches. At 300 events a second the pause is 1.5 ms, which
does not matter; at 2,000, batches have 20 events, which is worth the pause.
"""

WINDOW = 30
INTERVAL = 5
"""A filtered subscription reports its position every `WINDOW * INTERVAL` records."""

Items = list[RawRecord | Progress]


async def read_batches(
    uri: str,
    prefixes: Sequence[str],
    after: int | None,
    *,
    live: bool,
    gather: float = 0.0,
    event_types: Sequence[str] = (),
) -> AsyncGenerator[Items, None]:
    """Yield events after a position, of streams with these prefixes, in batches.

    If `live`, it never ends, and yields the server's progress too. Otherwise it ends at the
    log's end, and begins with the event at `after` itself. `gather`: see `Log.subscribe`. With
    `event_types`, it yields events whose types have these prefixes, of all streams.

    Raises:
        StoreUnavailable: no answer, or the read was interrupted.
    """
    reading = _ReaderThread(uri, _request(prefixes, after, event_types, live=live), gather)
    try:
        while (batch := await reading.take()) is not None:
            yield batch
    finally:
        reading.stop()


class _ReaderThread:
    """The thread, and the buffer between it and the event loop."""

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
        # The following attributes are used under the lock.
        self._items: Items = []
        self._notified = False
        self._ended = False
        self._error: Exception | None = None
        self._stopped = False
        self._responses: Any = None
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    async def take(self) -> Items | None:
        """Wait for items; return all that have arrived, None at the end.

        Raises:
            StoreUnavailable: see `read_batches`.
        """
        while True:
            await self._filled.wait()
            with self._lock:
                self._filled.clear()
                self._notified = False
                items, self._items = self._items, []
                self._room.notify()
                ended, error = self._ended, self._error
                if ended and items:
                    self._filled.set()  # the end is reported after the last of them
            if items:
                self._set_pause(len(items))
                return items
            if error is not None:
                raise refused(self._uri, error) from error
            if ended:
                return None

    def stop(self) -> None:
        """End the read; the thread follows."""
        with self._lock:
            self._stopped = True
            self._room.notify()
            responses = self._responses
        if responses is not None:
            responses.cancel()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with SyncClient(self._uri) as client:
                self._pump(client)
        except Exception as failure:
            # Any error must reach the consumer that waits.
            error = failure
        with self._lock:
            self._ended, self._error = True, error
            self._notify()

    def _pump(self, client: SyncClient) -> None:
        responses = client.responses(self._request)
        with self._lock:
            self._responses = responses
            if self._stopped:
                return
        for response in responses:
            item = decoded(response)
            if item is None:
                continue
            with self._lock:
                self._items.append(item)
                if not self._notified:
                    self._notify()
                while len(self._items) >= MOST and not self._stopped:
                    self._room.wait()
                if self._stopped:
                    return

    def _notify(self) -> None:
        self._notified = True
        if not self._stopped:  # the loop may be gone with the consumer
            self._loop.call_soon_threadsafe(self._wake)

    def _set_pause(self, events: int) -> None:
        now = self._loop.time()
        rate = events / max(now - self._taken_at, 1e-4)
        self._pause = self._gather + min(rate * PAUSE_PER_RATE, LONGEST_PAUSE)
        self._taken_at = now

    def _wake(self) -> None:
        early = self._taken_at + self._pause - self._loop.time()
        if early > 0:
            self._loop.call_later(early, self._filled.set)
        else:
            self._filled.set()


def _request(
    prefixes: Sequence[str], after: int | None, event_types: Sequence[str], *, live: bool
) -> streams_pb2.ReadReq:
    options = streams_pb2.ReadReq.Options()
    if after is None:
        options.all.start.SetInParent()
    else:
        options.all.position.commit_position = options.all.position.prepare_position = after
    if live:
        options.subscription.SetInParent()
    else:
        options.count = 2**63 - 1
    if event_types:
        options.filter.event_type.prefix.extend(event_types)
    else:
        options.filter.stream_identifier.prefix.extend(prefixes)
    options.filter.max = WINDOW
    options.filter.checkpointIntervalMultiplier = INTERVAL
    options.uuid_option.string.SetInParent()
    return streams_pb2.ReadReq(options=options)
