"""Queries Postgres for views, and chooses the server for other queries."""

from __future__ import annotations

from collections.abc import Sequence

from projections.postgres.database import Database
from projections.postgres.store import PostgresStore
from projections.stores.reader import StoreReader
from projections.supervision.placements import Placements
from rayfold import Registry


class PostgresReader(StoreReader):
    """The primary and its replicas, and the projectors that fill the primary's tables."""

    def __init__(
        self,
        registry: Registry,
        placements: Placements,
        dsn: str,
        streaming: Sequence[str] = (),
    ) -> None:
        """`streaming` are DSNs of streaming replicas of the database at `dsn`."""
        store = PostgresStore(registry, dsn, streaming)
        super().__init__(store, placements)
        self._rows = store.rows
        self.primary = store.rows.primary

    def choose(self, table: str, at_least: int) -> Database:
        """See `PostgresRows.choose`."""
        return self._rows.choose(table, at_least)
