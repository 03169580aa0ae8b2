"""A long read, by a thread of its own: what the log sends arrives in batches.

A message costs `grpc.aio` some 50 µs of CPU and the client's asynchronous iterator as
much again. The synchronous client on a channel that does without gRPC's own thread
(`SingleThreadedUnaryStream`) takes a fifth of that, decoding included; every replica and
every projector pays this for every event. So long reads go that way, and everything else
through the asynchronous client.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

import grpc
from grpc.experimental import ChannelOptions
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.exceptions import KurrentDBClientError

from eventstore.errors import StoreUnavailable

MOST = 4_000
"""Events that wait for their consumer; beyond that the thread waits, and by HTTP/2 the store."""

LONGEST_PAUSE = 0.01
PAUSE_PER_RATE = 5e-6
"""Seconds between two batches at least, for each event a second, up to `LONGEST_PAUSE`.

Handing a batch over costs two switches between threads. At 300 events a second that is a
pause of 1.5 ms, which nobody waits for; at 2,000 batches have 20 events and are worth it.
"""

_FAILURES = (KurrentDBClientError, grpc.RpcError, OSError, ValueError)
"""ValueError: what gRPC says of a channel that was closed."""

Read = Callable[[KurrentDBClient], Any]
"""Begins a read; gives what the client gives: an iterator of its events that can be stopped."""


async def feed(
    uri: str, read: Read, convert: Callable[[Any], Any]
) -> AsyncGenerator[list[Any], None]:
    """Batches of what `read` gives, each event converted (in the thread) by `convert`.

    Raises:
        StoreUnavailable: no answer, or the read broke off.
    """
    reading = _Reading(uri, read, convert)
    try:
        while (batch := await reading.take()) is not None:
            yield batch
    finally:
        reading.stop()


class _Reading:
    """The thread, and the buffer between it and the loop."""

    def __init__(self, uri: str, read: Read, convert: Callable[[Any], Any]) -> None:
        self._uri = uri
        self._read = read
        self._convert = convert
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._taken_at = self._loop.time()
        self._pause = 0.0
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        # Under the lock, from here on.
        self._items: list[Any] = []
        self._told = False
        self._ended = False
        self._error: Exception | None = None
        self._stopped = False
        self._open: Any = None
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    async def take(self) -> list[Any] | None:
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
            opened = self._open
        if opened is not None:
            opened.stop()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with _client(self._uri) as client:
                self._pump(client)
        except _FAILURES as failure:
            error = failure
        with self._lock:
            self._ended, self._error = True, error
            self._tell()

    def _pump(self, client: KurrentDBClient) -> None:
        events: Iterable[Any] = self._read(client)
        with self._lock:
            self._open = events
            if self._stopped:
                return
        convert = self._convert
        for event in events:
            item = convert(event)
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
        self._pause = min(rate * PAUSE_PER_RATE, LONGEST_PAUSE)
        self._taken_at = now

    def _wake(self) -> None:
        early = self._taken_at + self._pause - self._loop.time()
        if early > 0:
            self._loop.call_later(early, self._filled.set)
        else:
            self._filled.set()


def _client(uri: str) -> KurrentDBClient:
    client = KurrentDBClient(uri)
    client.grpc_options += ((ChannelOptions.SingleThreadedUnaryStream, 1),)
    client.reconnect()  # with that option; it also asks the store for a sign of life
    return client
