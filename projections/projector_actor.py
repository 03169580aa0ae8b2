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
        self, domain: str, eventstore: str, dsn: str, partition: int, partitions: int
    ) -> None:
        os.nice(NICENESS)
        collect_rarely()
        self._store = EventLog(eventstore)
        self._domain = domain
        self._dsn = dsn
        self._partition = partition
        self._partitions = partitions
        self._projector: Projector | None = None
        self._following: asyncio.Task[None] | None = None

    async def reached(self, position: int, timeout: float) -> int:
        """Where the projector is, once it is at `position` or `timeout` seconds have passed."""
        progress = self._running().progress
        await progress.reached(position, timeout)
        return progress.position

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
        if self._projector is None:
            self._projector = Projector(
                Registry.load(self._domain),
                self._store,
                self._dsn,
                self._partition,
                self._partitions,
            )
            self._following = asyncio.create_task(self._projector.run())
        return self._projector
