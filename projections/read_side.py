"""The read side as a whole: its actors, and the bus that reaches them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from ray.exceptions import RayError

from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.log import EventLog
from eventstore.records import metadata_of
from projections.competing.supervisor import CompetingSupervisor
from projections.errors import Behind, ProjectionError, UnknownTarget
from projections.memory.reader import MemoryReader
from projections.memory.supervisor import MemorySupervisor
from projections.operations.autoscaler import LAG, QUERIES, Autoscaler
from projections.operations.lag import Lag
from projections.operations.parked_events import ParkedEventOperations
from projections.operations.rebuild import Rebuild
from projections.operations.verification import Difference, StoredRow, compare, fold_afresh, plain
from projections.partitions import hash_of
from projections.postgres.reader import PostgresReader
from projections.postgres.supervisor import PostgresSupervisor
from projections.queries.bus import QueryBus
from projections.queries.history import History
from projections.settings import ReadSettings
from projections.sql.reader import SqlReader
from projections.sql.supervisor import SqlSupervisor
from projections.supervision.actor_handle import ActorHandle
from rayfold import RayfoldError, Registry, ViewDefinition

log = logging.getLogger(__name__)

MOST_PARTS = 64

LOOK = 0.5
"""Seconds between two looks at every part."""

MOVES = 20
"""Changes of scale that the status remembers."""


class ReadSide:
    """Started in the gateway's process, where Ray runs already."""

    def __init__(self, registry: Registry, settings: ReadSettings) -> None:
        self._registry = registry
        self._log = EventLog(settings.eventstore)
        self._memory_reads = MemoryReader()
        self._postgres_reads = PostgresReader(registry, settings.postgres, settings.postgres_reads)
        self._sql_reads = SqlReader(registry, self._postgres_reads)
        self._memory = MemorySupervisor(registry, settings, self._memory_reads)
        self._postgres = PostgresSupervisor(registry, settings, self._postgres_reads)
        self._competing = CompetingSupervisor(registry, settings, self._postgres_reads, self._log)
        self._sql = SqlSupervisor(registry, settings, self._sql_reads)
        self._lag = Lag()
        self._scaling = asyncio.Lock()
        self._autoscalers = {
            target: Autoscaler(QUERIES if target.startswith("memory") else LAG, *bounds)
            for target, bounds in settings.autoscale.items()
        }
        self._moves: deque[dict[str, Any]] = deque(maxlen=MOVES)
        self._rebuilds: dict[str, Rebuild] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.bus = QueryBus(registry, self._memory_reads, self._postgres_reads, self._sql_reads)
        self._mending = ParkedEventOperations(registry, self._log, self)
        self.history = History(registry, self._log)

    @classmethod
    async def start(cls, registry: Registry, settings: ReadSettings) -> ReadSide:
        """Migrates Postgres, makes the actors, waits until they answer; not until caught up.

        Raises:
            PostgresUnavailable: it does not answer.
            ProjectionError: an actor does not come up.
            UnknownTarget: there is nothing of the kind to scale by itself.
        """
        side = cls(registry, settings)
        for target, (least, most) in settings.autoscale.items():
            side._views_of(target, least)
            side._views_of(target, most)
        await asyncio.gather(side._memory.start(), side._start_postgres())
        await side._look_once()
        side._keep(side._look())
        if side._autoscalers:
            side._keep(side._autoscale())
        return side

    async def _start_postgres(self) -> None:
        # One after the other: each removes what is left of builds, and may build itself.
        await self._postgres.start()
        await self._competing.start()
        await self._sql.start()

    @property
    def parts(self) -> list[ActorHandle]:
        """All actors of the read side."""
        return [
            *self._memory.parts,
            *self._postgres.parts,
            *self._competing.parts,
            *self._sql.parts,
        ]

    async def caught_up(self, timeout: float) -> None:
        """Returns when every part has reached the log's end as of this call, or has stopped.

        Raises:
            Behind: one has not, after `timeout` seconds.
            StoreUnavailable: the log's end is not known.
        """
        until = time.monotonic() + timeout
        end = await self._log.end_position(self._registry.prefixes)
        while behind := [part for part in self.parts if _lags(part, end)]:
            if time.monotonic() > until:
                raise Behind(behind[0].name, behind[0].progress.position, end)
            soon = min(until, time.monotonic() + LOOK)
            await asyncio.gather(*(part.reached(end, soon) for part in behind))
            await asyncio.gather(*(part.look() for part in behind))
        while not all(part.ready for part in self.parts):
            if time.monotonic() > until:
                raise Behind("a part is not ready", 0, end)
            await asyncio.gather(*(part.look() for part in self.parts))

    async def scale(self, target: str, number: int, reason: str = "an operator") -> None:
        """Sets how many `memory` replicas or `postgres` partitions serve, all views or one.

        Of a view that competing consumers keep it is their number.

        Raises:
            UnknownTarget: there is no such target, or not so many of it.
            ProjectionError: new parts do not come up; the old ones stay.
        """
        kind, views = self._views_of(target, number)
        async with self._scaling:
            before = self._count(target)
            if kind == "memory":
                await self._memory.scale(views, number)
            else:
                competing = [view for view in views if view in self._competing.wanted]
                if len(competing) < len(views):
                    await self._postgres.scale([v for v in views if v not in competing], number)
                await self._competing.scale(competing, number)
        self._moves.appendleft(
            {
                "target": target,
                "from": before,
                "to": number,
                "reason": reason,
                "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            }
        )

    def _views_of(self, target: str, number: int) -> tuple[str, list[str]]:
        kind, _, view = target.partition(":")
        wanted = self._wanted(kind)
        if wanted is None or (view and view not in wanted):
            raise UnknownTarget(f"nothing to scale is named {target!r}")
        if not 1 <= number <= MOST_PARTS:
            raise UnknownTarget(f"{target} goes from 1 to {MOST_PARTS}, not {number}")
        return kind, [view] if view else list(wanted)

    def _count(self, target: str) -> int:
        kind, _, view = target.partition(":")
        wanted = self._wanted(kind) or {}
        return wanted[view] if view else max(wanted.values(), default=1)

    def _wanted(self, kind: str) -> dict[str, int] | None:
        if kind == "memory":
            return self._memory.wanted
        return self._postgres.wanted | self._competing.wanted if kind == "postgres" else None

    def moves(self) -> list[dict[str, Any]]:
        """The last changes of scale with their reasons, the newest first."""
        return list(self._moves)

    async def status(self) -> list[dict[str, Any]]:
        """Every part: state, position, and lag in positions and in seconds."""
        now, end = time.monotonic(), self._lag.end
        parts = [
            part.status(end, self._lag.of(part.seen.get("position", 0), now)) for part in self.parts
        ]
        return [*parts, *(each.status(end) for each in self._postgres_reads.replicas)]

    def rebuild(self, view: str) -> dict[str, Any]:
        """Begins to fold a view anew in every store that keeps it; gives its status.

        Custom SQL projections count as views.

        Raises:
            UnknownTarget: there is no such view.
        """
        known = self._registry.views.get(view)
        if known is None and view not in self._registry.projections:
            raise UnknownTarget(f"no view is named {view!r}")
        running = self._rebuilds.get(view)
        if running is None or not running.running:
            stores = known.stores if known is not None else ("postgres",)
            running = self._rebuilds[view] = Rebuild(view, stores)
            self._keep(self._rebuild(running))
        return running.status()

    async def rebuilt(self, view: str) -> None:
        """Folds a view anew; returns when that is done.

        Raises:
            ProjectionError: it failed; what serves is as it was.
        """
        self.rebuild(view)
        await self._rebuilds[view].finished.wait()
        if error := self._rebuilds[view].error:
            raise ProjectionError(error)

    async def fold_on(self, view: str, key: str) -> bool:
        """Tries again what Postgres keeps parked under a key; False if it broke again.

        Raises:
            UnknownTarget: it is not parked.
            ProjectionError: its projector does not answer.
        """
        if view in self._registry.projections:
            return await self._sql_reads.projectors[view].replay(view, key)
        parts = self._postgres_reads.projectors[view]
        return await parts[hash_of(key) % len(parts)].replay(view, key)

    def rebuilds(self) -> list[dict[str, Any]]:
        """The last rebuild of each view."""
        return [rebuild.status() for rebuild in self._rebuilds.values()]

    async def _rebuild(self, rebuild: Rebuild) -> None:
        try:
            for store in rebuild.stores:
                rebuild.begin(store, await self._log.end_position(self._registry.prefixes))
                if rebuild.view in self._registry.projections:
                    await self._sql.rebuild(rebuild)
                elif rebuild.view in self._competing.wanted:
                    await self._competing.rebuild(rebuild)
                elif store == "postgres":
                    await self._postgres.rebuild(rebuild)
                else:
                    await self._memory.rebuild(rebuild)
            rebuild.over(None)
        except RayfoldError as error:
            log.warning("rebuild of %r: %s", rebuild.view, error)
            rebuild.over(str(error))
        except BaseException as error:
            rebuild.over(repr(error))
            raise

    async def parked(self) -> list[dict[str, Any]]:
        """See `ParkedEventOperations.parked`."""
        return await self._mending.parked()

    async def parked_event(self, stream: str, revision: int) -> dict[str, Any] | None:
        """An event on which something stands still, as the log has it.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        after = revision - 1 if revision else None
        async for raw in self._log.read_stream(stream, after=after, limit=1):
            return {
                "type": raw.event_type,
                "stream": raw.stream,
                "revision": raw.revision,
                "position": raw.position,
                "data": raw.data.decode(errors="replace"),
                "metadata": metadata_of(raw),
            }
        return None

    async def replay(self, view: str, key: str) -> list[dict[str, Any]]:
        """See `ParkedEventOperations.replay`."""
        return await self._mending.replay(view, key)

    async def discard(self, view: str, key: str) -> list[dict[str, Any]]:
        """See `ParkedEventOperations.discard`."""
        return await self._mending.discard(view, key)

    async def verify(self, timeout: float = 60.0) -> list[dict[str, Any]]:
        """Where a view in a store differs from a fresh fold of the log; none, one hopes.

        Raises:
            Behind: a part did not come to the log's end in `timeout` seconds.
            StoreUnavailable, PostgresUnavailable, ProjectionError: no answer.
        """
        end = await self._log.end_position(self._registry.prefixes)
        await self.caught_up(timeout)
        expected = await fold_afresh(self._registry, self._log, end)
        differences: list[Difference] = []
        for view in self._registry.views.values():
            stores = await self._stores_of(view)
            for store, rows in stores.items():
                found = {key: StoredRow(body, position) for key, body, position in rows}
                differences += compare(store, view.name, expected[view.name], found, end)
        return plain(differences)

    async def _stores_of(self, view: ViewDefinition) -> dict[str, list[tuple[str, bytes, int]]]:
        stores: dict[str, list[tuple[str, bytes, int]]] = {}
        for replica in self._memory_reads.of(view.name):
            try:
                stores[replica.name] = await replica.actor.rows.remote(view.name)
            except RayError as error:
                raise ProjectionError(f"{replica.name} does not answer: {error!r}") from error
        if "postgres" in view.stores:
            stores["postgres"] = await self._postgres_reads.rows(view.name)
        return stores

    async def stop(self) -> None:
        """Ends subscriptions, removes the actors, closes connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(
            self._memory.stop(), self._postgres.stop(), self._competing.stop(), self._sql.stop()
        )
        self._postgres_reads.close()
        await self._log.close()

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self) -> None:
        """Keeps what is known of the parts fresh; calling a restarted one sets it going."""
        while True:
            await asyncio.sleep(LOOK)
            await self._look_once()
            await self._memory.start_restarted()

    async def _look_once(self) -> None:
        await asyncio.gather(*(part.look() for part in self.parts), self._postgres_reads.look())
        try:
            end = await self._log.end_position(self._registry.prefixes)
        except StoreUnavailable as error:
            log.info("the log's end is not known: %s", error)
        else:
            self._lag.saw(time.monotonic(), end)

    async def _autoscale(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for target, autoscaler in self._autoscalers.items():
                now, count = time.monotonic(), self._count(target)
                move = autoscaler.look(now, count, self._load(target, count, now))
                if move is None:
                    continue
                try:
                    await self.scale(target, move.parts, f"autoscaler: {move.reason}")
                except RayfoldError as error:
                    log.warning("the autoscaler could not scale %s: %s", target, error)

    def _load(self, target: str, count: int, now: float) -> float:
        kind, views = self._views_of(target, count)
        if kind == "memory":
            return sum(self._memory_reads.in_flight[view] for view in views) / count
        filling = [*self._postgres.parts, *self._competing.parts]
        parts = [part for part in filling if set(part.views) & set(views)]
        lags = [self._lag.of(part.progress.position, now) for part in parts]
        return max(lags, default=0.0)


def _lags(part: ActorHandle, end: int) -> bool:
    """Whether the part has to come further; a projection that stopped needs an operator."""
    return part.progress.position < end and not (part.kind == "sql" and "stopped" in part.seen)
