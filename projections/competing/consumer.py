"""A competing consumer of a view: takes from its group, folds, commits, acknowledges.

If a commit is impossible for now, events are not sent back: the subscription ends, and the server
gives unacknowledged events to other consumers, or to this one when it is back. An event before
which one is missing is sent back, each time a little later; if that does not help, the gap is
filled from the log itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Any

import asyncpg

from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.kurrentdb.persistent_subscriptions import (
    Deliveries,
    Delivery,
    PersistentSubscriptions,
)
from eventstore.port import Log
from eventstore.records import RawRecord
from projections.competing.deduplication import Deduplication
from projections.parked_pages import EVERYTHING, Asked
from projections.poison import Parked, in_status
from projections.postgres.connections import pooled
from rayfold import Registry, ViewDefinition
from rayfold.runtime.postgres import BY_INDEX
from rayfold.runtime.together import cancel

log = logging.getLogger(__name__)

PAUSE = 0.02
"""Seconds before an event is sent back for the first time; doubled each time."""

RETRIES = 5
"""Times that an event is sent back before its gap is closed from the log."""

ACK_SEEN = 0.02
"""Seconds from an acknowledgement to the second check whether the group counts it."""

LOOK = 0.25
"""The most seconds between two checks of the group's position, while it lags."""

MOMENT = 1.0
"""The most seconds that a status waits for Postgres: the caller takes silence for a process that
hangs, and replaces it.
"""

COUNTING = 20
"""Counting parked rows is repeated after this many times its duration: there may be many, and a
status is read twice a second.
"""

COUNTED = 10.0
"""The most seconds for which a count is reused."""


def group_of(view: ViewDefinition) -> str:
    """Return the name of the view's persistent subscription."""
    return f"rayfold-{view.name}"


class Consumer:
    """One of the consumers that share a view."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        groups: PersistentSubscriptions,
        dsn: str,
        view: ViewDefinition,
    ) -> None:
        self._log = log
        self._groups = groups
        self._view = view
        self._deduplication = Deduplication(registry, log, view)
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._moved = asyncio.Event()
        self._furthest = 0
        self._rejoin = asyncio.Event()
        self._sending: set[asyncio.Task[Any]] = set()
        self.sent_back = 0
        self._parked = 0
        self._first_parked: list[Parked] = []
        self._count_again = 0.0
        self._looking: asyncio.Task[None] | None = None
        # An acknowledged event is never delivered again, so the commit must be on disk: unlike a
        # projector, whose rows and checkpoint are lost together.
        settings = {"application_name": "rayfold", **BY_INDEX}
        self.runner = pooled(dsn, max_size=3, server_settings=settings)
        self.progress = self.runner.progress
        """All events up to this position, of any consumer, are in the table."""
        self.joined = self.runner.ready

    async def run(self) -> None:
        """Consume forever; after an error, try again."""
        try:
            await self.runner.run(self._join_and_consume)
        finally:
            if self._looking is not None:
                self._looking.cancel()

    async def _join_and_consume(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        try:
            await self._stand_aside(pool)
            async with self._groups.join(group_of(self._view)) as deliveries:
                await self._work(pool, deliveries)
        finally:
            self._pool = None

    async def _stand_aside(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Only watch the table's position, as long as another release's code has built the table.

        Our code would write wrong rows; without us, the group gives the events to others.
        """
        if not await self._deduplication.is_replaced(pool):
            return
        self.runner.error = f"another release has built {self._view.name!r}"
        log.warning("another release has built a view", extra={"view": self._view.name})
        while await self._deduplication.is_replaced(pool):  # noqa: ASYNC110
            await asyncio.sleep(LOOK)

    async def _work(self, pool: asyncpg.Pool[asyncpg.Record], deliveries: Deliveries) -> None:
        self._rejoin.clear()
        self._moved.set()
        self._furthest = 0
        await self._deduplication.load_discards()
        tasks = [
            asyncio.create_task(self._consume(pool, deliveries)),
            asyncio.create_task(self._follow_group(pool)),
            asyncio.create_task(self._rejoin.wait()),
        ]
        self.runner.error = None
        self.joined.set()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.joined.clear()
            await cancel(*tasks, *self._sending)

    async def _consume(self, pool: asyncpg.Pool[asyncpg.Record], deliveries: Deliveries) -> None:
        while True:
            batch = await deliveries.take()
            records = [each.raw for each in batch]
            span = self.runner.traced([self._view.name], records)
            missing = await self._deduplication.apply(pool, records)
            if span is not None:
                span.end()
            places = {(raw.stream, raw.revision) for raw in missing}
            gaps = [each for each in batch if (each.raw.stream, each.raw.revision) in places]
            await self._acknowledge(deliveries, [each for each in batch if each not in gaps])
            for gap in gaps:
                task = asyncio.create_task(self._send_back(pool, deliveries, gap))
                self._sending.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[Any]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("an event could not be sent back", extra={"error": str(error)})
            self._rejoin.set()  # leaving returns all events

    async def _acknowledge(self, deliveries: Deliveries, done: Sequence[Delivery]) -> None:
        if not done:
            return
        await deliveries.ack(done)
        self.runner.events += len(done)
        self._furthest = max(self._furthest, *(each.raw.position for each in done))
        self._moved.set()

    async def _send_back(
        self, pool: asyncpg.Pool[asyncpg.Record], deliveries: Deliveries, gap: Delivery
    ) -> None:
        if gap.retries < RETRIES:
            await asyncio.sleep(PAUSE * 2**gap.retries)
            self.sent_back += 1
            await deliveries.retry(gap)
            return
        applied = await self._deduplication.applied_of(pool, gap.raw.stream)
        behind: list[RawRecord] = []
        after = applied if applied >= 0 else None
        with suppress(StreamTombstoned):
            async with aclosing(self._log.read_stream(gap.raw.stream, after=after)) as records:
                async for raw in records:
                    if raw.revision > gap.raw.revision:
                        break
                    behind.append(raw)
        await self._deduplication.apply(pool, behind, whole=True)
        await self._acknowledge(deliveries, [gap])

    async def _follow_group(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Keep the table's checkpoint at what the group has acknowledged without gaps."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            pause = ACK_SEEN
            while True:
                at = await self._groups.position(group_of(self._view))
                await self._confirm(pool, at)
                if at >= self._furthest:
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, LOOK)

    async def _confirm(self, pool: asyncpg.Pool[asyncpg.Record], position: int) -> None:
        if position <= self.progress.position:
            return
        # It only increases: other consumers write it too, perhaps later than we.
        at = await pool.fetchval(
            "UPDATE rayfold_checkpoint SET position = greatest(position, $2)"
            ' WHERE "table" = $1 RETURNING position',
            self._deduplication.table,
            position,
        )
        self.progress.advance(at or 0)

    async def look(self) -> int:
        """Return the table's position, whichever consumer has brought it there.

        It may decrease if the table was replaced by one that was built from a restored log.
        """
        before = self.progress.position
        if self._pool is not None:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                statement = 'SELECT position FROM rayfold_checkpoint WHERE "table" = $1'
                at = await self._pool.fetchval(statement, self._deduplication.table) or 0
                if self.progress.position == before:  # otherwise the result is outdated
                    self.progress.begin_at(at)
                self.progress.advance(at)
        return self.progress.position

    def rejoin(self) -> None:
        """Leave and rejoin the group, so that streams are distributed again."""
        self._rejoin.set()

    async def replay(self, key: str) -> bool:
        """See `Deduplication.replay`."""
        try:
            return await self._deduplication.replay(self._connected(), key)
        finally:
            self._count_again = 0.0  # the caller will ask next how many are left

    async def parked(self, asked: Asked = EVERYTHING) -> list[Parked]:
        """See `parked_events.listed`: parked rows of the view, whichever consumer parked them."""
        return await self._deduplication.parked(self._connected(), asked)

    def _connected(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._pool is None:
            raise StoreUnavailable("the consumer is not connected yet")
        return self._pool

    async def status(self) -> dict[str, Any]:
        """Return counts, for operators, with the table's current position if Postgres answers."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_and_count())
        await asyncio.wait([self._looking], timeout=MOMENT)
        return self.runner.status(
            [self._view.name],
            sent_back=self.sent_back,
            parked=self._parked,
            **in_status(self._first_parked),
        )

    async def _look_and_count(self) -> None:
        await self.look()
        began = time.monotonic()
        if self._pool is not None and began >= self._count_again:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                counted = await self._deduplication.first_parked(self._pool)
                self._parked, self._first_parked = counted
                now = time.monotonic()
                self._count_again = now + min(COUNTING * (now - began), COUNTED)
