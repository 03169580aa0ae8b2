"""The Postgres projectors."""

from __future__ import annotations

from eventstore.port import Log
from projections.postgres.store import PostgresStore
from projections.settings import ReadSettings
from projections.stores.supervisor import StoreSupervisor
from projections.supervision.placements import Placements
from rayfold import Registry


class PostgresSupervisor(StoreSupervisor):
    """See `StoreSupervisor`."""

    def __init__(
        self, registry: Registry, settings: ReadSettings, placements: Placements, log: Log
    ) -> None:
        store = PostgresStore(registry, settings.postgres)
        super().__init__(store, registry, settings, placements, log)
