"""Redis or Valkey as a read store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from projections.poison import is_refused
from projections.redis.generations import RedisGenerations
from projections.redis.queries import RedisRows
from projections.redis.server import Server
from projections.redis.writer import RedisWriter
from projections.row_query import RowQuery, Snapshot
from projections.stores.port import Found, Place
from rayfold import Registry, ViewDefinition


class RedisStore:
    """See `ReadStore`."""

    name = "redis"
    required = False
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
        kept = RedisGenerations(server, self._place.stack)
        try:
            yield RedisWriter(server, kept, views, partition, partitions, generations)
        finally:
            await server.close()

    def refuses(self, error: BaseException) -> bool:
        """See `ReadStore.refuses`: it is too large, or none that the view's model reads."""
        return is_refused(error)

    def is_too_much(self, error: BaseException) -> bool:
        """See `ReadStore.is_too_much`."""
        return False

    async def connect(self) -> None:
        """Connect with the first question."""

    async def look(self) -> None:
        """Know of no server beside the one: see the stack's own look at it."""

    async def find(self, query: RowQuery) -> Found:
        """See `ReadStore.find`."""
        return await self._rows.find(query)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """See `ReadStore.snapshot`."""
        return await self._rows.snapshot(view, queries)

    def status(self, end: int) -> list[dict[str, Any]]:
        """Return nothing."""
        return []

    async def close(self) -> None:
        """See `ReadStore.close`."""
        await self._server.close()
