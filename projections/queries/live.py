"""Live queries: the gateway's side. One conversation with a replica for all listeners."""

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
"""Seconds that a question stays with the replica when nothing changes."""

PAUSE = 0.02
"""Seconds between two answers: changes in between arrive as one."""

RETRY = 0.2


class Listener:
    """Somebody who follows a row: the newest state that was not yet taken."""

    def __init__(self) -> None:
        self.newest: RowResult | None = None
        self.arrived = asyncio.Event()

    def offer(self, result: RowResult) -> None:
        """Take a new state; one that was not taken yet is replaced."""
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
        """Yield the row as it is, then each state that it comes to; several at once may be one.

        With each state comes a position in `$all` that shows it; none is older than `after`,
        nor than the state before, whichever replica tells of it. A row that is deleted is
        not told of; when it begins again, its state is.

        Raises:
            ReplicaUnavailable: there is none to ask.
        """
        listener = Listener()
        row = (view, key)
        self._listeners.setdefault(row, set()).add(listener)
        self._interest.set()
        if self._talking is None or self._talking.done():
            self._talking = asyncio.create_task(lasting(self._talk, "live queries"))
        try:
            # Others may follow the row already, so that nothing of it is news to the replica.
            # Asked after joining them: a change in between comes from both sides.
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
        """Run while anybody listens; with another replica when one goes away."""
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
                if changes is None:  # it was not told yet, or it took us for gone
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
        """Keep the replica told of which rows are followed, while the other call waits."""
        # What it told us last may have been lost on the way: so that every row is news to it.
        await replica.watch(self._name, [])
        while True:
            await self._interest.wait()
            self._interest.clear()
            # Of a view that it lacks another one is asked, once this conversation has ended.
            known = [row for row in self._listeners if row[0] in replica.views]
            await replica.watch(self._name, known)
            await asyncio.sleep(PAUSE)

    def _choose(self) -> ReplicaHandle | None:
        able = [each for each in self._placements.replicas if self._can_tell(each)]
        return min(able, key=lambda replica: replica.open, default=None)

    def _can_tell(self, replica: ReplicaHandle) -> bool:
        """Tell whether a replica is there, and holds all that is followed."""
        followed = {view for view, _ in self._listeners}
        there = replica.ready and replica in self._placements.replicas
        return there and followed <= {*replica.views}
