"""Catch-up subscriptions: the log after a point, then whatever is committed, for ever.

A subscription is a cursor, not a queue: it reads from disk until it has caught up, then from the
shared recent events (or what is pushed to its stream's followers), and from disk again when it has
fallen behind. So slow consumers cost no memory and are never dropped.
"""

import asyncio
import time
import uuid

from google.protobuf.timestamp_pb2 import Timestamp
from kurrentdbclient.protos.v1 import streams_pb2

from eventstore.embedded.protocol.call import Call
from eventstore.embedded.protocol.constants import MAX
from eventstore.embedded.protocol.errors import invalid_argument, stream_deleted
from eventstore.embedded.rpc.read_pages import PAGE, check_readable, send_page
from eventstore.embedded.rpc.read_request import Edge, ReadRequest
from eventstore.embedded.rpc.response_form import Shape, shape
from eventstore.embedded.storage.log_reader import SCAN_ROWS
from eventstore.embedded.storage.store import Store

Response = streams_pb2.ReadResp


def _now() -> Timestamp:
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


async def _confirm(call: Call) -> None:
    response = Response()
    response.confirmation.subscription_id = str(uuid.uuid4())
    await call.write(response.SerializeToString())


class StreamSubscription:
    """Follows one stream."""

    def __init__(self, store: Store, request: ReadRequest, call: Call) -> None:
        assert request.stream is not None
        self._log = store.log
        self._subscribers = store.subscribers
        self._call = call
        self._stream = request.stream
        self._form: Shape | None = shape(
            store.log, resolve_links=request.resolve_links, structured=request.structured
        )
        info = store.log.info(self._stream)
        if request.start is Edge.END:
            self._next = info.last + 1 if info.last != MAX else MAX
        elif request.start is Edge.START:
            self._next = 0
        else:
            assert isinstance(request.start, int)
            self._next = min(request.start + 1, MAX)

    async def run(self) -> None:
        """Serve until the caller goes away or the stream is tombstoned."""
        check_readable(self._log, self._stream)
        await _confirm(self._call)
        # Follow first, then read: nothing committed in between can be missed.
        follower = self._subscribers.follow(self._stream)
        try:
            while True:
                await self._catch_up()
                await self._send_caught_up()
                while (events := await follower.take()) is not None:
                    rows = [(e.revision, e.resp) for e in events if e.revision >= self._next]
                    await self._deliver(rows)
        finally:
            self._subscribers.leave(follower)

    async def _catch_up(self) -> None:
        while True:
            info = self._log.info(self._stream)
            if info.last == MAX:
                self._next = MAX
            elif not info.exists:
                return
            first, last = self._log.window(info)
            at = max(self._next, first) if last != MAX else MAX
            rows = self._log.stream_forwards(info.sid, at, last, PAGE)
            if not rows:
                return
            await self._deliver(rows)

    async def _deliver(self, rows: list[tuple[int, bytes]]) -> None:
        if not rows:
            return
        await send_page(self._call, rows, self._form)
        self._next = min(rows[-1][0] + 1, MAX)
        if rows[-1][0] == MAX:
            raise stream_deleted(self._stream)

    async def _send_caught_up(self) -> None:
        response = Response()
        response.caught_up.timestamp.CopyFrom(_now())
        info = self._log.info(self._stream)
        if info.exists and info.last < MAX:  # a soft-deleted stream has no revision to be at
            response.caught_up.stream_revision = info.last
        await self._call.write(response.SerializeToString())


class AllSubscription:
    """Follows ``$all``; with a filter, it also reports the position that it has reached."""

    def __init__(self, store: Store, request: ReadRequest, call: Call) -> None:
        self._log = store.log
        self._call = call
        self._match = request.match
        self._form: Shape | None = shape(
            store.log, resolve_links=request.resolve_links, structured=request.structured
        )
        self._interval = request.checkpoint_interval
        self._position = 0
        last = store.log.recent.last_position
        if request.start is Edge.END:
            self._position = last
        elif isinstance(request.start, int):
            if request.start > last:
                raise invalid_argument("Trying to read from an invalid position.")
            self._position = request.start
        self._reported = self._position
        """The position of the last checkpoint that was sent."""

    async def run(self) -> None:
        """Serve until the caller goes away."""
        await _confirm(self._call)
        recent = self._log.recent
        level = False
        while True:
            if self._position < recent.last_position:
                if recent.covers(self._position):
                    await self._from_recent()
                else:
                    level = False
                    await self._from_disk()
                if self._interval and self._position - self._reported >= self._interval:
                    await self._checkpoint()
                continue
            if not level:
                level = True
                if self._interval and self._position > self._reported:
                    await self._checkpoint()
                await self._send_caught_up()
                continue  # something may have been committed while these were sent
            await recent.wait()

    def _room(self) -> int:
        """Return how many events to read in one step: never beyond the next checkpoint."""
        if not self._interval:
            return SCAN_ROWS
        return max(1, min(SCAN_ROWS, self._interval - (self._position - self._reported)))

    async def _from_recent(self) -> None:
        events = self._log.recent.after(self._position, min(PAGE, self._room()))
        shows = self._match.shows
        rows = [(event.position, event.resp) for event in events if shows(event)]
        self._position = events[-1].position
        if rows:
            await send_page(self._call, rows, self._form)

    async def _from_disk(self) -> None:
        room = self._room()
        rows, reached = self._log.scan_forwards(self._position, self._match, PAGE, room)
        if rows:
            await send_page(self._call, rows, self._form)
        else:
            await asyncio.sleep(0)
        self._position = reached

    async def _checkpoint(self) -> None:
        response = Response()
        response.checkpoint.commit_position = self._position
        response.checkpoint.prepare_position = self._position
        response.checkpoint.timestamp.CopyFrom(_now())
        self._reported = self._position
        await self._call.write(response.SerializeToString())

    async def _send_caught_up(self) -> None:
        response = Response()
        response.caught_up.timestamp.CopyFrom(_now())
        if self._position:
            response.caught_up.position.commit_position = self._position
            response.caught_up.position.prepare_position = self._position
        await self._call.write(response.SerializeToString())
