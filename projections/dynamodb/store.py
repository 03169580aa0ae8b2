"""DynamoDB as a read store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from projections.dynamodb.generations import DynamoGenerations
from projections.dynamodb.queries import DynamoRows
from projections.dynamodb.table import Table
from projections.dynamodb.writer import DynamoWriter, TooMuch
from projections.row_query import RowQuery, Snapshot
from projections.stores.plain_store import PlainStore
from projections.stores.port import Found, Place
from rayfold import Registry, ViewDefinition


class DynamoStore(PlainStore):
    """See `ReadStore`."""

    name = "dynamodb"
    most_events = 16
    """Usually these change fewer than a hundred items."""

    def __init__(self, registry: Registry, place: Place) -> None:
        self._place = place
        self._table = Table(place.url)
        self.generations = DynamoGenerations(self._table, place.stack)
        self._rows = DynamoRows(registry, self._table, self.generations)

    @asynccontextmanager
    async def writing(
        self,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        generations: Mapping[str, str],
    ) -> AsyncIterator[DynamoWriter]:
        """See `ReadStore.writing`."""
        table = Table(self._place.url)
        own = DynamoGenerations(table, self._place.stack)
        try:
            yield DynamoWriter(table, own, views, partition, partitions, generations)
        finally:
            await table.close()

    async def is_too_much(self, error: BaseException) -> bool:
        """See `ReadStore.is_too_much`."""
        return isinstance(error, TooMuch)

    async def find(self, query: RowQuery) -> Found:
        """See `ReadStore.find`."""
        return await self._rows.find(query)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """See `ReadStore.snapshot`."""
        return await self._rows.snapshot(view, queries)

    async def close(self) -> None:
        """See `ReadStore.close`."""
        await self.generations.close()
        await self._table.close()
