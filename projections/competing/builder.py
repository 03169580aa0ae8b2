"""Fills a new generation of a view that competing consumers keep, from the log in order."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import Any

import asyncpg

from eventstore.port import Log
from projections.competing.applying import Applier
from projections.errors import UnknownTarget
from projections.folding import Parked
from projections.progress import Progress
from projections.sql.execution import named
from rayfold import Registry, View

log = logging.getLogger(__name__)

RETRY = 0.25
"""Seconds before what broke is tried again."""

MOST_EVENTS = 1_000
"""In one transaction."""


class Builder:
    """Follows the log by a catch-up subscription: many times as fast as event by event.

    It keeps the streams' revisions as consumers do, so that they go on where it ends.
    """

    def __init__(
        self, registry: Registry, store: Log, dsn: str, view: type[View], table: str
    ) -> None:
        self._registry = registry
        self._store = store
        self._dsn = dsn
        self._view = view
        self._applier = Applier(registry, store, view, table)
        self.progress = Progress()
        self.caught_up = asyncio.Event()
        self.events = 0
        self.trouble: str | None = None

    async def run(self) -> None:
        """Follows the log for ever; what breaks is tried again."""
        while True:
            try:
                await self._follow()
            except Exception as error:  # a mistake of ours too is shown, not died of
                self.trouble = named(error)
                log.info("building broke: %s", self.trouble)
            await asyncio.sleep(RETRY)

    async def _follow(self) -> None:
        table = self._applier.table
        async with asyncpg.create_pool(
            self._dsn,
            min_size=1,
            max_size=1,
            server_settings={"synchronous_commit": "off", "application_name": "rayfold"},
        ) as pool:
            await self._applier.load_discards()
            # A place that is behind the rows is no harm: what is folded again is a repeat.
            after = await pool.fetchval(
                'SELECT position FROM rayfold_checkpoint WHERE "table" = $1', table
            )
            self.trouble = None
            subscription = self._store.subscribe(self._registry.prefixes, after or None)
            async with aclosing(subscription) as batches:
                async for batch in batches:
                    for at in range(0, len(batch.records), MOST_EVENTS):
                        records = batch.records[at : at + MOST_EVENTS]
                        await self._applier.apply(pool, records, whole=True)
                        self.events += len(records)
                    await pool.execute(
                        'UPDATE rayfold_checkpoint SET position = $2 WHERE "table" = $1',
                        table,
                        batch.position,
                    )
                    self.progress.advance(batch.position)
                    if batch.caught_up:
                        self.caught_up.set()

    async def look(self) -> int:
        """How far it is."""
        return self.progress.position

    def rejoin(self) -> None:
        """It shares with nobody."""

    async def replay(self, key: str) -> bool:
        """Nobody mends what is not live yet.

        Raises:
            UnknownTarget: always.
        """
        raise UnknownTarget(f"nothing is parked under {key!r}: this generation is not live yet")

    async def parked(self) -> list[Parked]:
        """Nor asks for it."""
        return []

    def status(self) -> dict[str, Any]:
        """Counts, for operators."""
        return {
            "views": [self._view.name],
            "position": self.progress.position,
            "ready": self.caught_up.is_set() and self.trouble is None,
            "events": self.events,
            **({"error": self.trouble} if self.trouble else {}),
        }
