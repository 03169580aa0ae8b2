"""Querying the read side's actors, in every process that can reach them."""

from __future__ import annotations

import asyncio

from eventstore.deletions import with_deletions
from eventstore.personal.opening import open_log
from projections.memory.reader import MemoryReader
from projections.memory.restarted import start_restarted
from projections.operations.audit import Audit
from projections.operations.monitor import Monitor
from projections.postgres.reader import PostgresReader
from projections.queries.bus import QueryBus, RowReader
from projections.queries.history import History
from projections.queries.log_browser import LogBrowser
from projections.settings import ReadSettings
from projections.sql.reader import SqlReader
from projections.stores.configured import readers_beside_postgres
from projections.stores.reader import StoreReader
from projections.supervision.actor_handle import LOOK
from projections.supervision.placements import Placements
from rayfold import Registry
from rayfold.runtime.waking import asleep


class ReadAccess:
    """Connections, and the known progress of the actors; starts and ends no actor."""

    def __init__(self, registry: Registry, settings: ReadSettings) -> None:
        self.log = log = open_log(settings.eventstore, registry, settings.postgres)
        self.placements = placements = Placements()
        self.postgres = PostgresReader(
            registry, placements, settings.postgres, settings.postgres_reads
        )
        others = readers_beside_postgres(registry, settings, placements)
        self.stores: dict[str, StoreReader] = {"postgres": self.postgres, **others}
        memory = MemoryReader(placements)
        sql = SqlReader(registry, placements, self.postgres)
        readers: dict[str, RowReader] = {"memory": memory, **self.stores}
        self.bus = QueryBus(registry, placements, settings.stores_of, readers, memory, sql)
        self.history = History(registry, log)
        self.browser = LogBrowser(registry, log)
        self.audit = Audit(log)
        stores = [each.store for each in self.stores.values()]
        self.monitor = Monitor(placements, stores, log, with_deletions(registry.prefixes))
        self._look_now = asyncio.Event()

    def look_now(self) -> None:
        """Make `watch` check at once: something is new."""
        self._look_now.set()

    async def watch(self) -> None:
        """Check every actor, forever, and start those that came up empty."""
        while True:
            await asleep(LOOK, self._look_now)
            await self.look()

    async def connect(self) -> None:
        """Connect to the stores.

        Raises:
            PostgresUnavailable: Postgres does not answer.
        """
        for each in self.stores.values():
            await each.store.connect()

    async def look(self) -> None:
        """Check every actor once."""
        await self.monitor.look()
        await start_restarted(self.placements.replicas)

    async def close(self) -> None:
        """Close the connections."""
        for each in self.stores.values():
            await each.store.close()
        await self.log.close()
