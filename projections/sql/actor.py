"""A SQL projector in a process of its own: the Ray shell around `SqlProjector`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import psutil

from eventstore.log import EventLog
from projections.projector_actor import NICENESS
from projections.sql.projector import SqlProjector
from rayfold import Registry
from rayfold.collector import collect_rarely


class SqlProjectorActor:
    """Runs as a Ray actor. A restarted one goes on at its checkpoint."""

    def __init__(
        self, domain: str, eventstore: str, dsn: str, projection: str, schema: str | None
    ) -> None:
        os.nice(NICENESS)
        collect_rarely()
        self._store = EventLog(eventstore)
        registry = Registry.load(domain)
        declared = registry.projections[projection]
        self._projector = SqlProjector(registry, self._store, dsn, declared, schema)
        self._following: asyncio.Task[None] | None = None

    async def reached(self, position: int, timeout: float) -> int:
        """Where the projector is, once it is at `position` or `timeout` seconds have passed."""
        progress = self._running().progress
        await progress.reached(position, timeout)
        return progress.position

    async def parked(self) -> list[tuple[Any, ...]]:
        """What is parked, as plain tuples."""
        return [tuple(parked) for parked in self._running().parked()]

    async def replay(self, key: str) -> bool:
        """See `SqlProjector.replay`."""
        return await self._running().replay(key)

    async def status(self) -> dict[str, Any]:
        """For operators."""
        return {
            "pid": os.getpid(),
            "memory_bytes": psutil.Process().memory_info().rss,
            **self._running().status(),
        }

    async def stop(self) -> None:
        """Ends the subscription; an open transaction is rolled back."""
        if self._following is not None:
            self._following.cancel()
        await self._store.close()

    def _running(self) -> SqlProjector:
        # Not in `__init__`: Ray runs that outside of the loop that the client must live on.
        if self._following is None:
            self._following = asyncio.create_task(self._projector.run())
        return self._projector
