"""Forgetting aggregates whose streams another client of the event store deletes.

A host does not read the log before it decides on a cached aggregate. The expected revision detects
every event of other writers, but not a deletion: an append at the revision where the deleted stream
ended succeeds, and the aggregate would live on. Streams that we delete are deleted by their own
host: see `Host.delete`.
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
"""Seconds until a broken subscription is restarted."""


class DeletionWatch:
    """Follows the metadata of aggregate streams from now on."""

    def __init__(
        self, log: Log, prefixes: Sequence[str], forget: Callable[[str], Awaitable[None]]
    ) -> None:
        """`forget` is called with each stream of these prefixes that was deleted or truncated."""
        self._log = log
        self._prefixes = prefixes
        self._forget = forget
        self._position: int | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow deletions from now on, or from when the store answers."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop following."""
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
        # A log that was restored to an earlier moment ends before the position that was followed.
        self._position = end if self._position is None else min(self._position, end)
        metastreams = [f"$${prefix}" for prefix in self._prefixes]
        subscription = self._log.subscribe(metastreams, self._position or None)
        async with aclosing(subscription) as batches:
            async for batch in batches:
                for raw in batch.records:
                    if b'"$tb"' in raw.data:
                        await self._forget(raw.stream.removeprefix("$$"))
                self._position = batch.position
