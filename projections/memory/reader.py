"""Queries to memory replicas: the less loaded of two that are ready, hedged with another."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence

from projections.errors import ActorUnavailable, BadCursor, Behind, ReplicaUnavailable
from projections.memory.replica_handle import ReplicaHandle
from projections.row_query import RowQuery, RowResult
from projections.supervision.placements import Placements
from rayfold.runtime.batching import BatchFull
from rayfold.runtime.deadlines import Deadlines
from rayfold.runtime.rpc import RpcDisconnected, RpcServerFailed

HEDGE = 0.2
"""Seconds without an answer after which another replica is asked as well, and for which the nearest
replica may take to reach a position before another one is considered.
"""

PAUSE = 0.05
"""Seconds before a replica is looked for again if none is ready."""


class MemoryReader:
    """Queries the replicas of each view."""

    def __init__(self, placements: Placements) -> None:
        self._placements = placements
        self._deadlines = Deadlines()
        self._in_flight = placements.in_flight

    async def ask(self, query: RowQuery, deadline: float) -> RowResult:
        """Return an answer that has reached `query.at_least`, by `deadline` (`time.monotonic`).

        Raises:
            Behind: no replica reached the position in time.
            ReplicaUnavailable: no replica answers.
        """
        self._in_flight[query.view] += 1
        try:
            return await self._ask(query, deadline)
        finally:
            self._in_flight[query.view] -= 1

    async def _ask(self, query: RowQuery, deadline: float) -> RowResult:
        late: RowResult | None = None
        lacking = ""
        while True:
            replica = self._choose(query)
            if replica is not None:
                try:
                    result = await self._hedged(replica, query)
                    if not result.late:
                        return result
                    late = result
                    nearest = self._nearest(query.view)
                    # It is the view itself that has stopped.
                    if nearest.progress.position >= query.at_least:
                        await asyncio.sleep(PAUSE)
                    soon = min(deadline, time.monotonic() + HEDGE)
                    await nearest.reached(query.at_least, soon)
                except BatchFull as error:
                    raise ReplicaUnavailable("too many queries wait already") from error
                except BadCursor:  # not the client's mistake: `row_query` has read the cursor
                    lacking = f"{replica.name} is of a release that has no such pages"
                    await asyncio.sleep(PAUSE)  # another one may be of ours
                except (ActorUnavailable, RpcDisconnected):
                    pass  # `_one` has marked the replica
                except RpcServerFailed as error:
                    raise ReplicaUnavailable(f"{replica.name} gives no answer: {error}") from error
            else:
                await asyncio.sleep(PAUSE)
            if time.monotonic() >= deadline:
                if late is not None:
                    raise Behind(query.view, late.position, query.at_least)
                raise ReplicaUnavailable(lacking or f"no replica of {query.view!r} is ready")

    async def _hedged(self, replica: ReplicaHandle, query: RowQuery) -> RowResult:
        """Ask the replica; if it is slow and there are others, ask these too."""
        others = [other for other in self._ready(query.view) if other is not replica]
        if not others:
            return await self._one(replica, query)
        asked_at = time.monotonic()
        try:
            with self._deadlines.until(asked_at + HEDGE):
                return await self._one(replica, query)
        except TimeoutError:
            # Until its pending queries are answered or given up, no other query waits for it.
            replica.silent = replica.answered_at < asked_at
        random.shuffle(others)
        # It is asked again as the last: it may only have been slow, and the others may be
        # suspended.
        return await self._first_of([*others, replica], query)

    async def _first_of(self, replicas: Sequence[ReplicaHandle], query: RowQuery) -> RowResult:
        """Ask one after the other, `HEDGE` seconds apart; return the first answer."""
        left, waiting = deque(replicas), set[asyncio.Task[RowResult]]()
        error: BaseException | None = None
        try:
            while left or waiting:
                asked_at = time.monotonic()
                asked = left.popleft() if left else None
                if asked is not None:
                    waiting.add(asyncio.create_task(self._one(asked, query)))
                done, waiting = await asyncio.wait(
                    waiting, timeout=HEDGE if left else None, return_when=asyncio.FIRST_COMPLETED
                )
                errors = {each: each.exception() for each in done}
                for each, error in errors.items():
                    if error is None:
                        return each.result()
                if not done and asked is not None:
                    asked.silent = asked.answered_at < asked_at
        finally:
            for each in waiting:
                each.cancel()
        assert error is not None, "somebody is asked"
        raise error

    async def _one(self, replica: ReplicaHandle, query: RowQuery) -> RowResult:
        try:
            return await replica.ask(query)
        except (ActorUnavailable, RpcDisconnected):
            replica.ready = False
            raise

    def _choose(self, query: RowQuery) -> ReplicaHandle | None:
        there = self._there(query)
        if len(there) < 2:
            return there[0] if there else None
        one, other = random.sample(there, 2)
        return one if one.open <= other.open else other

    def _there(self, query: RowQuery) -> list[ReplicaHandle]:
        """Return the replicas that have reached the position; all that are ready if none has."""
        ready = self._ready(query.view)
        if len(ready) < 2:
            return ready
        there = [each for each in ready if each.progress.position >= query.at_least]
        return there or ready

    def _ready(self, view: str) -> list[ReplicaHandle]:
        """Return the replicas that answer and follow the log; all that may if none surely does."""
        ready = [each for each in self._placements.replicas_of(view) if each.ready]
        if len(ready) < 2:
            return ready
        return [each for each in ready if not each.silent and not each.lagging] or ready

    def _nearest(self, view: str) -> ReplicaHandle:
        replicas = self._placements.replicas_of(view)
        return max(replicas, key=lambda each: (each.ready, not each.silent, each.progress.position))
