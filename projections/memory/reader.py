"""Queries to memory replicas: the less loaded of two that are ready, in batches."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayActorError, RayError

from projections.errors import Behind, ReplicaUnavailable
from projections.memory.replica import Ask, Found
from projections.supervision.actor_handle import SILENCE, ActorHandle
from rayfold.runtime.batching import Batcher, BatchFull
from rayfold.runtime.rpc import Address, RpcClient, RpcDisconnected, RpcServerFailed

BATCH = 256
BATCHES = 2
QUEUE = 8192


class ReplicaClient(ActorHandle):
    """A memory replica, with the queries that are on their way to it."""

    def __init__(self, name: str, views: Sequence[str], actor: Any) -> None:
        super().__init__(name, "memory", actor, views)
        self.batcher: Batcher[Ask, Found | Exception] = Batcher(
            self._send, max_batch=BATCH, max_queue=QUEUE, in_flight=BATCHES
        )
        self._link = RpcClient(self._address)
        self.open = 0
        self._drained = asyncio.Event()

    async def ask(self, ask: Ask) -> Found:
        """The replica's answer.

        Raises:
            BadCursor: the replica says so.
            RayError, RpcDisconnected, RpcServerFailed: it does not answer.
            BatchFull: too many queries wait for it.
        """
        self.open += 1
        try:
            found = await self.batcher.call(ask)
        finally:
            self.open -= 1
            if not self.open:
                self._drained.set()
        if isinstance(found, Exception):
            raise found
        return found

    async def idle(self) -> None:
        """Returns when no query is on its way to it."""
        while self.open:
            self._drained.clear()
            await self._drained.wait()

    def close(self) -> None:
        """See `ActorHandle.close`."""
        super().close()
        self._link.close()

    async def _address(self) -> Address:
        address: Address = await self.actor.address.remote()
        return address

    async def _send(self, asks: list[Ask]) -> list[Found | Exception]:
        try:
            async with asyncio.timeout(SILENCE):
                answers = await self._link.call([tuple(ask) for ask in asks])
        except TimeoutError as error:
            self._link.close()  # it may be gone without a word: the next batch asks where it is
            raise RpcDisconnected(f"{self.name} does not answer") from error
        found = [Found(*each) if isinstance(each, tuple) else each for each in answers]
        for each in found:
            if isinstance(each, Found):
                self.progress.advance(each.position)
                break
        return found


class MemoryReader:
    """The replicas of each view."""

    def __init__(self) -> None:
        self.replicas: list[ReplicaClient] = []
        self.in_flight: Counter[str] = Counter()
        """Queries by view, also those that wait for a replica."""

    def of(self, view: str) -> list[ReplicaClient]:
        """The replicas that hold the view."""
        return [replica for replica in self.replicas if view in replica.views]

    async def ask(self, ask: Ask, deadline: float) -> Found:
        """An answer that is at `ask.at_least`; `deadline` is in `time.monotonic` seconds.

        Raises:
            Behind: no replica came so far in time.
            ReplicaUnavailable: none answers.
            BadCursor: see `PageQuery`.
        """
        self.in_flight[ask.view] += 1
        try:
            return await self._ask(ask, deadline)
        finally:
            self.in_flight[ask.view] -= 1

    async def _ask(self, ask: Ask, deadline: float) -> Found:
        late: Found | None = None
        while True:
            replica = self._choose(ask)
            if replica is not None:
                try:
                    found = await replica.ask(ask)
                    if not found.late:
                        return found
                    late = found
                    nearest = self._nearest(ask.view)
                    if nearest.progress.position >= ask.at_least:  # the view itself stands still
                        await asyncio.sleep(0.05)
                    await nearest.reached(ask.at_least, deadline)
                except BatchFull as error:
                    raise ReplicaUnavailable("too many queries wait already") from error
                except (RayActorError, RpcDisconnected):
                    replica.ready = False
                except (RayError, RpcServerFailed) as error:
                    raise ReplicaUnavailable(f"{replica.name}: {type(error).__name__}") from error
            else:
                await asyncio.sleep(0.05)
            if time.monotonic() >= deadline:
                if late is not None:
                    raise Behind(ask.view, late.position, ask.at_least)
                raise ReplicaUnavailable(f"no replica of {ask.view!r} is ready")

    def _choose(self, ask: Ask) -> ReplicaClient | None:
        ready = [replica for replica in self.of(ask.view) if replica.ready]
        if not ready:
            return None
        there = [replica for replica in ready if replica.progress.position >= ask.at_least]
        pool = there or ready
        if len(pool) == 1:
            return pool[0]
        one, other = random.sample(pool, 2)
        return one if one.open <= other.open else other

    def _nearest(self, view: str) -> ReplicaClient:
        return max(self.of(view), key=lambda replica: (replica.ready, replica.progress.position))
