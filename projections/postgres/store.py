"""Postgres as a read store: its tables, its projectors' transactions, its queries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from projections.newly_parked import NewlyParked
from projections.poison import is_refused
from projections.postgres import parked_events, schema
from projections.postgres.connections import SETTINGS, connected, is_batch_too_long, pool
from projections.postgres.queries import PostgresRows
from projections.postgres.writer import PostgresWriter
from projections.row_query import RowQuery, Snapshot
from projections.stores.port import Found, Reached
from rayfold import Registry, ViewDefinition
from rayfold.runtime.postgres import BY_INDEX


class PostgresStore:
    """See `ReadStore`; queries may go to streaming replicas, DSNs of which are `streaming`."""

    name = "postgres"
    required = True
    most_events = 8_000
    """The most events in one transaction. When live, it has those that came during the previous
    one.
    """

    def __init__(self, registry: Registry, dsn: str, streaming: Sequence[str] = ()) -> None:
        self._dsn = dsn
        self.generations = PostgresGenerations(dsn)
        self.rows = PostgresRows(registry, dsn, streaming)

    @asynccontextmanager
    async def writing(
        self,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        generations: Mapping[str, str],
    ) -> AsyncIterator[PostgresWriter]:
        """See `ReadStore.writing`."""
        async with pool(self._dsn, server_settings=SETTINGS | BY_INDEX) as connections:
            yield PostgresWriter(connections, views, partition, partitions, generations)

    def refuses(self, error: BaseException) -> bool:
        """See `ReadStore.refuses`."""
        return is_refused(error)

    async def is_too_much(self, error: BaseException) -> bool:
        """See `ReadStore.is_too_much`."""
        return await is_batch_too_long(error, lambda: connected(self._dsn))

    async def connect(self) -> None:
        """See `ReadStore.connect`; raises `PostgresUnavailable`."""
        await self.rows.connect()

    async def look(self) -> None:
        """See `ReadStore.look`."""
        await self.rows.look()

    async def find(self, query: RowQuery) -> Found:
        """See `ReadStore.find`."""
        return await self.rows.find(query)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """See `ReadStore.snapshot`."""
        return await self.rows.snapshot(view, queries)

    def status(self, end: int) -> list[dict[str, Any]]:
        """Return the streaming replicas."""
        return [each.status(end) for each in self.rows.replicas]

    async def close(self) -> None:
        """See `ReadStore.close`."""
        self.rows.close()


class PostgresGenerations:
    """See `Generations`: tables, and the switch between them."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def prepare(
        self, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
    ) -> list[ViewDefinition]:
        """See `Generations.prepare`."""
        async with connected(self._dsn) as connection:
            return await schema.prepare(connection, views, partitions)

    async def partition(self, views: Sequence[ViewDefinition], number: int) -> None:
        """See `Generations.partition`."""
        async with connected(self._dsn) as connection:
            for view in views:
                # Each in its own transaction: a projector locks checkpoints of many views, in
                # another order.
                async with connection.transaction():
                    await schema.partition(connection, schema.table_of(view), number)

    async def begin(self, view: ViewDefinition) -> str:
        """See `Generations.begin`."""
        async with connected(self._dsn) as connection:
            return await schema.begin_generation(connection, view)

    async def finish(self, view: ViewDefinition, generation: str) -> None:
        """Create the indexes."""
        async with connected(self._dsn) as connection:
            await schema.create_indexes(connection, view, generation)

    async def furthest(self, view: ViewDefinition) -> int:
        """See `Generations.furthest`."""
        async with connected(self._dsn) as connection:
            return await schema.position_of(connection, schema.table_of(view))

    async def newly_parked(self, view: ViewDefinition, generation: str) -> NewlyParked | None:
        """See `Generations.newly_parked`."""
        async with connected(self._dsn) as connection:
            live = schema.table_of(view)
            return await parked_events.newly_parked(connection, view.name, live, generation)

    async def switch(self, view: ViewDefinition, generation: str, reached: Reached) -> None:
        """See `Generations.switch`."""
        async with connected(self._dsn) as connection:
            await schema.switch(connection, view, generation, reached)

    async def discard(self, view: ViewDefinition, generation: str) -> None:
        """See `Generations.discard`."""
        async with connected(self._dsn) as connection:
            await schema.discard(connection, generation)
