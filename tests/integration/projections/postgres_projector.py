"""A projector into Postgres, by its DSN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eventstore.port import Log
from projections.postgres.store import PostgresStore
from projections.stores.projector import Projector as StoreProjector
from rayfold import Registry, ViewDefinition


class Projector(StoreProjector):
    """See `projections.stores.projector`; `tables` names generations in the making."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        dsn: str,
        views: Sequence[ViewDefinition],
        partition: int = 0,
        partitions: int = 1,
        tables: Mapping[str, str] | None = None,
    ) -> None:
        store = PostgresStore(registry, dsn)
        super().__init__(registry, log, store, views, partition, partitions, tables)
