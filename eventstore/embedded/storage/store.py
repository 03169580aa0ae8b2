"""Writer and readers of one data folder, joined: what the services are built on."""

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from eventstore.embedded.protocol.constants import METADATA_TYPE
from eventstore.embedded.protocol.errors import timed_out
from eventstore.embedded.storage.data_folder import DataFolder
from eventstore.embedded.storage.event import Event, Proposed
from eventstore.embedded.storage.log_reader import LogReader
from eventstore.embedded.storage.operations import Append, Nothing, Operation
from eventstore.embedded.storage.schema import connect, prepare
from eventstore.embedded.storage.stream_names import StreamNames
from eventstore.embedded.storage.stream_subscribers import StreamSubscribers
from eventstore.embedded.storage.writer import Writer

T = TypeVar("T")

WRITE_TIMEOUT = 10.0
"""Seconds. The real server gives up after 2, which is too soon on a busy laptop."""


class Store:
    """Opens the folder; everything else asks it to write, or reads its log."""

    def __init__(self, path: Path) -> None:
        self._folder = DataFolder(path)
        try:
            connection = connect(self._folder.database, writer=True)
            prepare(connection)
            self._names = StreamNames(connection)
            connection.close()
            self.log = LogReader(self._folder.database, self._names)
        except BaseException:
            self._folder.close()
            raise
        self.subscribers = StreamSubscribers()
        self._listeners: list[Callable[[list[Event]], None]] = []
        self._writer: Writer | None = None
        self.failure: asyncio.Future[str] | None = None
        """Done, with the reason, once nothing can be written until the process is restarted."""

    async def start(self) -> None:
        """Start writing. A new store gets one system event, as a real node has at first boot."""
        loop = asyncio.get_running_loop()
        self.failure = loop.create_future()
        self._writer = Writer(
            self._folder.database, self._names, loop, self._publish, self._note_failure
        )
        self._writer.start()
        if self.log.recent.last_position == 0:
            first = Proposed(uuid.uuid4().bytes, METADATA_TYPE, True, b'{"$maxAge":2592000}', b"")
            await self.submit(Append("$$$scavenges", -1, [first]))

    def _note_failure(self, reason: str) -> None:
        if self.failure is not None and not self.failure.done():
            self.failure.set_result(reason)

    def _publish(self, events: list[Event]) -> None:
        self.log.publish(events)
        self.subscribers.publish(events)
        for listener in self._listeners:
            listener(events)

    def listen(self, listener: Callable[[list[Event]], None]) -> None:
        """Call back on the event loop after every commit with events."""
        self._listeners.append(listener)

    async def barrier(self) -> None:
        """Return when everything queued until now is on disk."""
        await self.write(Nothing(), type(None))

    def submit(self, operation: Operation, size: int = 0) -> "asyncio.Future[object]":
        """Queue a write; the future ends when it is on disk."""
        if self._writer is None:
            raise RuntimeError("the store has not been started")
        return self._writer.submit(operation, size)

    async def write(self, operation: Operation, kind: type[T], size: int = 0) -> T:
        """Queue a write and wait for its result. The wait can be cancelled, the write cannot."""
        future = self.submit(operation, size)
        done, _ = await asyncio.wait((future,), timeout=WRITE_TIMEOUT)
        if not done:
            raise timed_out("the write is still queued")
        result = future.result()
        if not isinstance(result, kind):
            raise TypeError(f"expected {kind.__name__}, got {type(result).__name__}")
        return result

    async def stop(self) -> None:
        """Finish what is queued, then close everything."""
        if self._writer is not None:
            await self._writer.stop()
        self.log.close()
        self._folder.close()
