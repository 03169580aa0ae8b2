"""Queries to a durable store, which wait until it has reached the caller's position."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from projections.errors import Behind, BeingBuilt
from projections.row_query import RowQuery, RowResult, Snapshot
from projections.stores.port import ReadStore
from projections.supervision.placements import Placements

PAUSE = 0.05
"""Seconds between queries to a store that reports its position only in its answers."""


class StoreReader:
    """Queries a store; knows the projectors that fill it."""

    def __init__(self, store: ReadStore, placements: Placements) -> None:
        self.store = store
        self._placements = placements

    async def ask(self, query: RowQuery, deadline: float) -> RowResult:
        """Return an answer that has reached `query.at_least`; `deadline` is by `time.monotonic`.

        Raises:
            Behind: the projectors did not reach the position in time.
            BeingBuilt: the store lacks rows, and did not get them in time.
            ReadStoreUnavailable: the store does not answer.
            BadCursor: see `PageQuery`.
        """
        while True:
            try:
                found = await self.store.find(query)
            except BeingBuilt:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(PAUSE)
                continue
            if found.covered >= query.at_least:
                return found.result
            if time.monotonic() >= deadline:
                raise Behind(query.view, found.covered, query.at_least)
            await self._wait(query, deadline)

    async def _wait(self, query: RowQuery, deadline: float) -> None:
        filling = self._placements.filling(query.view, query.key, self.store.name)
        there = [each for each in filling if each.progress.position >= query.at_least]
        if len(there) == len(filling):  # none has reached it, or the view itself has stopped
            await asyncio.sleep(PAUSE)
        for each in filling:
            await each.reached(query.at_least, deadline)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """Return every row, and an answer to each query, as of one moment.

        Raises:
            ReadStoreUnavailable: the store does not answer.
        """
        return await self.store.snapshot(view, queries)
