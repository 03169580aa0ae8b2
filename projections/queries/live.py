"""Live queries, the gateway's side: one exchange with a replica for all listeners."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from uuid import uuid4

from projections.errors import ActorUnavailable, Behind
from projections.memory.reader import MemoryReader
from projections.memory.replica_handle import ReplicaHandle
from projections.memory.subscriptions import Watched
from projections.row_query import RowQuery, RowResult
from projections.supervision.placements import Placements
from rayfold.runtime.lasting import lasting

log = logging.getLogger(__name__)

POLL = 10.0
"""Seconds that a request stays open at the replica when nothing changes."""

PAUSE = 0.02
"""Seconds between two answers: the changes in between are combined."""

RETRY = 0.2


class Listener:
    """A listener of a row: holds the newest state that it has not received yet."""

    def __init__(self) -> None:
        self.newest: RowResult | None = None
        self.arrived = asyncio.Event()

    def offer(self, result: RowResult) -> None:
        """Set a new state; it replaces one that was not received yet."""
        self.newest = result
        self.arrived.set()


class LiveQueries:
    """The listeners of this process, by row."""

    def __init__(self, placements: Placements, memory: MemoryReader) -> None:
        self._placements = placements
        self._memory = memory
        self._name = uuid4().hex
        self._listeners: dict[Watched, set[Listener]] = {}
        self._interest = asyncio.Event()
        self._talking: asyncio.Task[None] | None = None

    async def follow(
        self, view: str, key: str, after: int
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yield the row's current state, then each new one; several changes may be combined.

        Each state comes with a position in `$all` at which it holds; none is older than `after` or
        the state before, whichever replica sends it. The deletion of a row is not reported; when
        the row begins again, its state is.

        Raises:
            ReplicaUnavailable: there is no replica to ask.
        """
        listener = Listener()
        row = (view, key)
        self._listeners.setdefault(row, set()).add(listener)
        self._interest.set()
        if self._talking is None or self._talking.done():
            self._talking = asyncio.create_task(lasting(self._talk, "live queries"))
        try:
            # Others may follow the row already, so that the replica does not report its current
            # state. It is queried after joining them: a change in between may arrive twice.
            with suppress(Behind):
                wanted = RowQuery(view, key, after, {}, 0, None)
                listener.offer(await self._memory.ask(wanted, time.monotonic() + POLL))
            body, seen = None, after
            while True:
                await listener.arrived.wait()
                listener.arrived.clear()
                result, listener.newest = listener.newest, None
                if result is None or result.body is None:
                    continue
                if result.position >= seen and result.body != body:
                    body, seen = result.body, result.position
                    yield result.position, body
        finally:
            listeners = self._listeners[row]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[row]
            self._interest.set()

    async def _talk(self) -> None:
        """Run while there are listeners; change to another replica when one goes away."""
        while self._listeners:
            replica = self._choose()
            if replica is None:
                await asyncio.sleep(RETRY)
                continue
            try:
                await self._talk_to(replica)
            except ActorUnavailable as error:
                log.info("live queries lost a replica", extra={"error": error})
                replica.ready = False

    async def _talk_to(self, replica: ReplicaHandle) -> None:
        self._interest.set()
        interest: asyncio.Task[None] | None = None
        try:
            while self._listeners and self._can_tell(replica):
                if interest is None:
                    interest = asyncio.create_task(self._tell_interest(replica))
                elif interest.done():
                    interest.result()
                    interest = None
                    continue
                changes = await replica.changes(self._name, POLL)
                if changes is None:  # it has no rows of ours yet, or considered us gone
                    self._interest.set()
                for view, key, result in changes or ():
                    for listener in self._listeners.get((view, key), ()):
                        listener.offer(result)
                await asyncio.sleep(PAUSE)
        finally:
            if interest is not None:
                interest.cancel()
            with suppress(ActorUnavailable):
                await replica.watch(self._name, [])

    async def _tell_interest(self, replica: ReplicaHandle) -> None:
        """Keep the replica informed of which rows are followed, while the other call waits."""
        # Its last answer may have been lost: this makes every row count as new.
        await replica.watch(self._name, [])
        while True:
            await self._interest.wait()
            self._interest.clear()
            # For a view that it lacks, another replica is asked once this exchange has ended.
            known = [row for row in self._listeners if row[0] in replica.views]
            await replica.watch(self._name, known)
            await asyncio.sleep(PAUSE)

    def _choose(self) -> ReplicaHandle | None:
        able = [each for each in self._placements.replicas if self._can_tell(each)]
        return min(able, key=lambda replica: replica.open, default=None)

    def _can_tell(self, replica: ReplicaHandle) -> bool:
        """Return whether a replica is there and holds all followed views."""
        followed = {view for view, _ in self._listeners}
        there = replica.ready and replica in self._placements.replicas
        return there and followed <= {*replica.views}
