"""Streams that somebody else deletes, with a client of the store's: their aggregates are forgotten.

A host that has an aggregate in memory asks the log nothing before it decides. The expected revision
tells it of every event of others, but a deletion is none: an append where the stream ended passes,
and the aggregate would live on. What we delete ourselves, its own host deletes: see `Host.delete`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from eventstore.errors import StoreUnavailable
from eventstore.port import Log

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a subscription that broke is begun again."""


class DeletionWatch:
    """Follows the metadata of the aggregates' streams from now on."""

    def __init__(
        self, log: Log, prefixes: Sequence[str], forget: Callable[[str], Awaitable[None]]
    ) -> None:
        """`forget` is told of each stream of those prefixes that was deleted or cut."""
        self._log = log
        self._prefixes = prefixes
        self._forget = forget
        self._position: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what is deleted from now on, or from when the store answers."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._log.close()

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except StoreUnavailable as error:
                log.info("deletions are not followed", extra={"error": str(error)})
            except Exception:
                log.exception("following deletions failed")
            await asyncio.sleep(RETRY)

    async def _follow(self) -> None:
        end = await self._log.end_position(None)
        # A log that was restored to an earlier moment ends before what was followed.
        self._position = end if self._position is None else min(self._position, end)
        metastreams = [f"$${prefix}" for prefix in self._prefixes]
        subscription = self._log.subscribe(metastreams, self._position or None)
        async with aclosing(subscription) as batches:
            async for batch in batches:
                for raw in batch.records:
                    if b'"$tb"' in raw.data:
                        await self._forget(raw.stream.removeprefix("$$"))
                self._position = batch.position
