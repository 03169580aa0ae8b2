"""The read side as a whole: what it is made of, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging

from eventstore.deletions import with_deletions
from eventstore.kurrentdb.log import EventLog
from projections.competing.supervisor import CompetingSupervisor
from projections.erasure import views_that_keep
from projections.memory.reader import MemoryReader
from projections.memory.supervisor import MemorySupervisor
from projections.operations.audit import Audit
from projections.operations.monitor import LOOK, Monitor
from projections.operations.parked_events import ParkedEventOperations
from projections.operations.rebuilds import Rebuilder, Rebuilds
from projections.operations.scaling import Scaling
from projections.operations.verification import Verification
from projections.postgres import budget
from projections.postgres.reader import PostgresReader
from projections.postgres.supervisor import PostgresSupervisor
from projections.queries.bus import QueryBus
from projections.queries.history import History
from projections.settings import ReadSettings
from projections.sql.reader import SqlReader
from projections.sql.supervisor import SqlSupervisor
from projections.supervision.placements import Placements
from rayfold import Registry

log = logging.getLogger(__name__)


class ReadSide:
    """Started in the gateway's process, where Ray runs already."""

    def __init__(self, registry: Registry, settings: ReadSettings) -> None:
        """Compose it; nothing is started yet.

        Raises:
            UnknownTarget: `settings.autoscale` names nothing that can be scaled.
        """
        self._registry = registry
        self._log = log = EventLog(settings.eventstore)
        self.placements = placements = Placements()
        self._postgres_reader = PostgresReader(
            registry, placements, settings.postgres, settings.postgres_reads
        )
        memory_reader = MemoryReader(placements)
        sql_reader = SqlReader(registry, placements, self._postgres_reader)
        self._memory = MemorySupervisor(registry, settings, placements)
        self._postgres = PostgresSupervisor(registry, settings, placements)
        self._competing = CompetingSupervisor(registry, settings, placements, log)
        self._sql = SqlSupervisor(registry, settings, placements)
        self.bus = QueryBus(registry, placements, memory_reader, self._postgres_reader, sql_reader)
        self.history = History(registry, log)
        self.audit = Audit(log)
        self.monitor = Monitor(
            placements, self._postgres_reader, log, with_deletions(registry.prefixes)
        )
        self.rebuilds = Rebuilds(registry, log, self._rebuilder)
        self.parked_events = ParkedEventOperations(registry, log, placements, self.rebuilds.done)
        self.verification = Verification(
            registry, log, placements, self._postgres_reader, self.monitor
        )
        self.scaling = Scaling(
            self._memory,
            self._postgres,
            self._competing,
            placements,
            memory_reader,
            self.monitor,
            settings.autoscale,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, registry: Registry, settings: ReadSettings) -> ReadSide:
        """Migrate Postgres, start the actors, wait until they answer; not until caught up.

        What was started before one of these is ended again.

        Raises:
            PostgresUnavailable: it does not answer.
            ActorUnavailable: an actor does not come up.
            UnknownTarget: there is nothing of the kind to scale by itself.
        """
        side = cls(registry, settings)
        starting = [
            asyncio.create_task(each) for each in (side._memory.start(), side._start_postgres())
        ]
        try:
            await asyncio.gather(*starting)
            await side.monitor.look()
            await side._count_connections()
        except BaseException:
            for each in starting:
                each.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await side.stop()
            raise
        side._begin()
        return side

    async def lose(self) -> None:
        """Call no actor any more: the Ray that ran them is gone."""
        await self._end_tasks()
        for handle in self.placements.all:
            handle.lose()

    async def heal(self) -> None:
        """Start every actor again: the Ray that ran them is gone, and there is another one."""
        for handle in self.placements.all:
            handle.respawn()
        await self.monitor.look()
        await self._memory.start_restarted()
        self._begin()

    def views_that_keep(self, stream: str) -> list[str]:
        """See `projections.erasure.views_that_keep`."""
        return views_that_keep(self._registry, stream)

    async def stop(self) -> None:
        """End subscriptions, remove the actors, close connections."""
        await self._end_tasks()
        await self.rebuilds.stop()
        await asyncio.gather(
            self._memory.stop(), self._postgres.stop(), self._competing.stop(), self._sql.stop()
        )
        self._postgres_reader.close()
        await self._log.close()

    def _begin(self) -> None:
        self._tasks = [
            asyncio.create_task(self._watch()),
            asyncio.create_task(self.scaling.by_load()),
        ]

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _start_postgres(self) -> None:
        # One after the other: each removes what is left of builds, and may build itself.
        await self._postgres.start()
        await self._postgres_reader.connect()
        await self._competing.start()
        await self._sql.start()

    async def _count_connections(self) -> None:
        wanted = budget.wanted(self.placements)
        if short := await budget.shortage(self._postgres_reader.primary, wanted):
            log.warning("postgres may run out of connections", extra={"reason": short})

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            await self.monitor.look()
            await self._memory.start_restarted()

    def _rebuilder(self, view: str, store: str) -> Rebuilder:
        if view in self._registry.projections:
            return self._sql.rebuild
        if view in self._competing.wanted:
            return self._competing.rebuild
        return self._postgres.rebuild if store == "postgres" else self._memory.rebuild
