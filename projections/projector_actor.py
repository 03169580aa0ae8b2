"""A Postgres projector in a process of its own: the Ray shell around `Projector`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import psutil

from eventstore.log import EventLog
from projections.projector import Projector
from rayfold import Registry
from rayfold.collector import collect_rarely

NICENESS = 5
"""On a machine where all parts share the cores, a projector lags before commands wait."""


class ProjectorActor:
    """Runs as a Ray actor. A restarted one goes on at its checkpoint."""

    def __init__(
        self,
        domain: str,
        eventstore: str,
        dsn: str,
        views: list[str],
        partition: int,
        partitions: int,
        tables: dict[str, str],
    ) -> None:
        os.nice(NICENESS)
        collect_rarely()
        self._store = EventLog(eventstore)
        registry = Registry.load(domain)
        self._projector = Projector(
            registry,
            self._store,
            dsn,
            [registry.views[name] for name in views],
            partition,
            partitions,
            tables,
        )
        self._following: asyncio.Task[None] | None = None

    async def reached(self, position: int, timeout: float) -> int:
        """Where the projector is, once it is at `position` or `timeout` seconds have passed."""
        progress = self._running().progress
        await progress.reached(position, timeout)
        return progress.position

    async def parked(self) -> list[tuple[Any, ...]]:
        """What is parked in these tables, as plain tuples."""
        return [tuple(parked) for parked in self._running().parked()]

    async def replay(self, view: str, key: str) -> bool:
        """See `Projector.replay`."""
        return await self._running().replay(view, key)

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

    def _running(self) -> Projector:
        # Not in `__init__`: Ray runs that outside of the loop that the client must live on.
        if self._following is None:
            self._following = asyncio.create_task(self._projector.run())
        return self._projector
