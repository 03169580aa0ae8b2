"""Queries to a durable store, and waiting until it has reached a position."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from projections.errors import Behind, BeingBuilt
from projections.row_query import RowQuery, RowResult, Snapshot
from projections.stores.port import ReadStore
from projections.supervision.placements import Placements

PAUSE = 0.05
"""Seconds before a store is asked again that says itself when it is there."""


class StoreReader:
    """Asks a store; knows the projectors that fill it."""

    def __init__(self, store: ReadStore, placements: Placements) -> None:
        self.store = store
        self._placements = placements

    async def ask(self, query: RowQuery, deadline: float) -> RowResult:
        """Return an answer that is at `query.at_least`; `deadline` is in `time.monotonic` seconds.

        Raises:
            Behind: the projectors did not come so far in time.
            BeingBuilt: the store lacks rows, and did not have them in time.
            ReadStoreUnavailable: it does not answer.
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
        if len(there) == len(filling):  # none yet, or the view itself has stopped
            await asyncio.sleep(PAUSE)
        for each in filling:
            await each.reached(query.at_least, deadline)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """Return every row, and an answer to each question, as of one moment.

        Raises:
            ReadStoreUnavailable: the store does not answer.
        """
        return await self.store.snapshot(view, queries)
