"""Redis or Valkey as a read store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from projections.redis.generations import RedisGenerations
from projections.redis.queries import RedisRows
from projections.redis.server import Server
from projections.redis.writer import RedisWriter
from projections.row_query import RowQuery, Snapshot
from projections.stores.plain_store import PlainStore
from projections.stores.port import Found, Place
from rayfold import Registry, ViewDefinition


class RedisStore(PlainStore):
    """See `ReadStore`."""

    name = "redis"
    most_events = 2_000

    def __init__(self, registry: Registry, place: Place) -> None:
        self._place = place
        self._server = Server(place.url)
        self.generations = RedisGenerations(self._server, place.stack)
        self._rows = RedisRows(registry, self._server, self.generations)

    @asynccontextmanager
    async def writing(
        self,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        generations: Mapping[str, str],
    ) -> AsyncIterator[RedisWriter]:
        """See `ReadStore.writing`."""
        server = Server(self._place.url)
        own = RedisGenerations(server, self._place.stack)
        try:
            yield RedisWriter(server, own, views, partition, partitions, generations)
        finally:
            await server.close()

    async def find(self, query: RowQuery) -> Found:
        """See `ReadStore.find`."""
        return await self._rows.find(query)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """See `ReadStore.snapshot`."""
        return await self._rows.snapshot(view, queries)

    async def close(self) -> None:
        """See `ReadStore.close`."""
        await self._server.close()
