"""A memory replica as its users in this process see it, with the queries in progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from projections.errors import ActorUnavailable
from projections.row_query import RowQuery, RowResult, Snapshot
from projections.supervision.actor_handle import SILENCE, ActorHandle
from rayfold.runtime.batching import Batcher
from rayfold.runtime.current_actor import Spawn
from rayfold.runtime.placing import Placed
from rayfold.runtime.rpc import Address, RpcClient, RpcDisconnected

BATCH = 256
BATCHES = 2
QUEUE = 8192


class ReplicaHandle(ActorHandle):
    """Sends queries to the replica in batches, on a connection of their own."""

    def __init__(
        self,
        name: str,
        views: Sequence[str],
        spawn: Spawn,
        place: Placed | None = None,
        *,
        owned: bool = True,
        asker: str = "",
        in_flight: Mapping[str, int] | None = None,
    ) -> None:
        """`in_flight` has the open queries of `asker`, this process, to all replicas, by view."""
        super().__init__(name, "memory", views, spawn, place, owned=owned)
        self._asker = asker
        self._in_flight = {} if in_flight is None else in_flight
        self._batcher: Batcher[RowQuery, RowResult | Exception] = Batcher(
            self._send, max_batch=BATCH, max_queue=QUEUE, in_flight=BATCHES
        )
        self._client = RpcClient(self._address, self._fell_silent)
        self.open = 0
        self.silent = False
        """Whether pending queries have waited too long for an answer."""
        self.lagging = False
        """Whether it has been behind the log for long: it is cut off, or cannot keep up."""
        self.answered_at = 0.0
        self._drained = asyncio.Event()

    async def ask(self, query: RowQuery) -> RowResult:
        """Return the replica's answer.

        Raises:
            BadCursor: the replica raised it.
            ActorUnavailable, RpcDisconnected, RpcServerFailed: it does not answer.
            BatchFull: too many queries are waiting for it.
        """
        self.open += 1
        try:
            result = await self._batcher.call(query)
        finally:
            self.open -= 1
            if not self.open:
                self._drained.set()
        if isinstance(result, Exception):
            raise result
        return result

    async def idle(self) -> None:
        """Wait until no query to it is in progress."""
        while self.open:
            self._drained.clear()
            await self._drained.wait()

    async def start(self, peer: ReplicaHandle | None) -> None:
        """Start following the log, from the position of `peer` if there is one.

        Raises:
            ActorUnavailable: it does not answer.
        """
        try:
            async with asyncio.timeout(SILENCE):
                await self._call("start", peer and peer._actor.ray_actor)
        except TimeoutError as error:
            raise ActorUnavailable(f"{self.name} does not answer") from error

    async def rebuild(self, view: str, *, accept_parked: bool) -> None:
        """Fold a view again from the log beside the live one, then replace that.

        Raises:
            WouldPark: the new one would serve fewer keys than the live one, which stays.
            ActorUnavailable: it failed; the live one stays.
        """
        await self._call("rebuild", view, accept_parked)

    async def retire(self) -> None:
        """End it for good once it is idle, and remove its snapshots: fewer replicas are wanted."""
        await self.idle()
        with suppress(TimeoutError, ActorUnavailable):
            async with asyncio.timeout(SILENCE):
                await self._call("forget_snapshots", respawn=False)
        await self.end()

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """Return every row of a view, and an answer to each query, as of one moment.

        Raises:
            ActorUnavailable: it does not answer.
        """
        snapshot, rows = uuid4().hex, list[tuple[str, bytes, int, int]]()
        questions = [tuple(each) for each in queries]
        pages = await self._call("begin_snapshot", snapshot, view, questions)
        # After a failure, the replica releases the snapshot within a minute.
        while piece := await self._call("snapshot", snapshot, len(rows)):
            rows += piece
        return Snapshot(rows, pages)

    async def watch(self, watcher: str, rows: Sequence[tuple[str, str]]) -> None:
        """Set the rows, by view and key, that the watcher follows from now on.

        Raises:
            ActorUnavailable: it does not answer.
        """
        await self._call("watch", watcher, list(rows))

    async def changes(
        self, watcher: str, timeout: float
    ) -> list[tuple[str, str, RowResult]] | None:
        """Return the watched rows that changed since the last call, by view and key.

        Return None if the replica does not know the watcher, or has forgotten it.

        Raises:
            ActorUnavailable: it does not answer.
        """
        changed = await self._call("changes", watcher, timeout)
        if changed is None:
            return None
        return [(view, key, RowResult(*result)) for view, key, *result in changed]

    async def leave(self) -> None:
        """See `ActorHandle.leave`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE):
                await self.idle()
        await super().leave()

    def _told(self) -> tuple[Any, ...]:
        return self._asker, {view: count for view, count in self._in_flight.items() if count}

    def _changed(self) -> None:
        super()._changed()
        self._client.close()

    def close(self) -> None:
        """See `ActorHandle.close`."""
        super().close()
        self._client.close()

    async def _address(self) -> Address:
        address: Address = await self._call("address")
        return address

    def _fell_silent(self) -> None:
        self.ready = False

    async def _send(self, queries: list[RowQuery]) -> list[RowResult | Exception]:
        try:
            async with asyncio.timeout(SILENCE):
                answers: list[Any] = await self._client.call([tuple(query) for query in queries])
        except TimeoutError as error:
            # It may be gone without notice: the next batch looks it up again.
            self._client.close()
            self.ready = False  # the caller may have gone elsewhere
            raise RpcDisconnected(f"{self.name} does not answer") from error
        finally:
            self.silent = False
        self.answered_at = time.monotonic()
        results = [RowResult(*each) if isinstance(each, tuple) else each for each in answers]
        for each in results:
            if isinstance(each, RowResult):
                self.progress.advance(each.position)
                break
        return results
