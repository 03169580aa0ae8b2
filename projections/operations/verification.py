"""Compares every view in every store with a fresh fold of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from eventstore.deletions import with_deletions
from eventstore.port import Log
from projections import discarded_events as discards
from projections.folding import Folding
from projections.memory.table import Table
from projections.operations.differences import Difference, plain
from projections.operations.monitor import Monitor
from projections.operations.query_verification import compare_store, sample
from projections.row_query import RowQuery, Snapshot
from projections.stores.reader import StoreReader
from projections.supervision.placements import Placements
from rayfold import Registry, ViewDefinition
from rayfold.runtime.turns import Turn


class Verification:
    """Compares the stores with the log."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        placements: Placements,
        readers: Mapping[str, StoreReader],
        monitor: Monitor,
    ) -> None:
        """`readers` query the durable stores of this stack, by name."""
        self._registry = registry
        self._log = log
        self._placements = placements
        self._readers = readers
        self._monitor = monitor

    async def verify(self, timeout: float = 60.0) -> list[dict[str, Any]]:
        """Return the differences of views in stores from a fresh fold of the log.

        Rows are compared with the log's, and query results with the rows.

        Raises:
            Behind: an actor did not reach the log's end in `timeout` seconds.
            ActorUnavailable: an actor is not ready in that time, or does not answer.
            StoreUnavailable, ReadStoreUnavailable: no answer.
        """
        end = await self._log.end_position(with_deletions(self._registry.prefixes))
        await self._monitor.caught_up(timeout)
        expected = await fold_afresh(self._registry, self._log, end)
        differences: list[Difference] = []
        for view in self._registry.views.values():
            table = expected.pop(view.name)  # as large as the view itself, and needed once
            queries = await asyncio.to_thread(sample, table)
            async for store, found in self._stores_of(view, queries):
                differences += await asyncio.to_thread(
                    compare_store, store, table, queries, found, end
                )
        return plain(differences)

    async def _stores_of(
        self, view: ViewDefinition, queries: Sequence[RowQuery]
    ) -> AsyncIterator[tuple[str, Snapshot]]:
        """Yield the views of one store after the other: each is large."""
        for replica in self._placements.replicas_of(view.name):
            yield replica.name, await replica.snapshot(view.name, queries)
        for name in view.stores:
            if name in self._readers:
                yield name, await self._readers[name].snapshot(view.name, queries)


async def fold_afresh(registry: Registry, log: Log, until: int) -> dict[str, Table]:
    """Return every view's rows as of position `until`, from the log alone.

    A row that is parked behind an event that cannot be folded is parked here too.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    views = list(registry.views.values())
    folding = Folding(registry, views)
    folding.discarded = await discards.load(log, registry.views)
    tables = {view.name: Table(view) for view in views}
    turn = Turn()
    async with aclosing(log.read_all(with_deletions(registry.prefixes))) as records:
        async for raw in records:
            if raw.position > until:
                break
            await turn.pass_on()
            for step in folding.steps(raw):
                tables[step.view.name].fold(step, folding)
            folding.take_noted()
    return tables
