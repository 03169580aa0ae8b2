"""Fills a new generation of a view that competing consumers keep, from the log in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import asyncpg

from eventstore.deletions import with_deletions
from eventstore.port import Log
from projections.competing.deduplication import Deduplication
from projections.errors import UnknownTarget
from projections.poison import Parked
from projections.postgres.connections import SETTINGS, pooled
from rayfold import Registry, ViewDefinition
from rayfold.runtime.postgres import BY_INDEX

MOST_EVENTS = 1_000
"""The most events in one transaction."""


class Backfill:
    """Follows the log by a catch-up subscription, which is many times as fast as a consumer group.

    It stores the streams' revisions as consumers do, so that they continue where it ends.
    """

    def __init__(
        self, registry: Registry, log: Log, dsn: str, view: ViewDefinition, table: str
    ) -> None:
        self._registry = registry
        self._log = log
        self._view = view
        self._deduplication = Deduplication(registry, log, view, table)
        self.runner = pooled(dsn, server_settings=SETTINGS | BY_INDEX)
        self.progress = self.runner.progress

    async def run(self) -> None:
        """Follow the log forever; after an error, try again."""
        await self.runner.run(self._follow)

    async def _follow(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        table = self._deduplication.table
        await self._deduplication.load_discards()
        # A position before that of the rows does no harm: repeated events are skipped.
        after = await pool.fetchval(
            'SELECT position FROM rayfold_checkpoint WHERE "table" = $1', table
        )
        subscription = self._log.subscribe(with_deletions(self._registry.prefixes), after or None)
        async with aclosing(self.runner.batches(subscription, MOST_EVENTS)) as batches:
            async for batch in batches:
                if batch.records:
                    await self._deduplication.apply(pool, batch.records, whole=True)
                    self.runner.events += len(batch.records)
                await pool.execute(
                    'UPDATE rayfold_checkpoint SET position = $2 WHERE "table" = $1',
                    table,
                    batch.position,
                )
                self.progress.advance(batch.position)

    async def replay(self, view: str, key: str) -> bool:
        """Refuse: a generation that is not live is not replayed.

        Raises:
            UnknownTarget: always.
        """
        raise UnknownTarget(f"nothing is parked under {key!r}: this generation is not live yet")

    async def replay_all(self, view: str, keys: Sequence[str]) -> None:
        """Do nothing, for the same reason."""

    def parked(self) -> list[Parked]:
        """Return nothing: only the live generation reports parked rows."""
        return []

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        return self.runner.status([self._view.name])
