"""A memory replica in a process of its own: the Ray shell around `Replica`."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import uuid4

import psutil

from eventstore.log import EventLog
from projections.replica import Ask, Replica
from rayfold import Registry


class ReplicaActor:
    """Runs as a Ray actor. A restarted one is empty, and says so until it has caught up."""

    def __init__(self, name: str, domain: str, views: list[str], eventstore: str) -> None:
        self._incarnation = f"{name}:{uuid4().hex[:12]}"
        self._store = EventLog(eventstore)
        self._registry = Registry.load(domain)
        self._views = views
        self._replica: Replica | None = None
        self._following: asyncio.Task[None] | None = None

    async def ask(self, asks: list[tuple[Any, ...]]) -> list[Any]:
        """An answer for each, as a plain tuple or as an error."""
        found = self._running().answer([Ask(*ask) for ask in asks])
        return [tuple(each) if isinstance(each, tuple) else each for each in found]

    async def reached(self, position: int, timeout: float) -> int:
        """Where the replica is, once it is at `position` or `timeout` seconds have passed."""
        progress = self._running().progress
        await progress.reached(position, timeout)
        return progress.position

    async def rows(self, view: str) -> list[tuple[str, bytes, int]]:
        """Key, document and position of every row of a view."""
        return self._running().rows(view)

    async def status(self) -> dict[str, Any]:
        """For operators, and for whoever chooses a replica to ask."""
        return {
            "incarnation": self._incarnation,
            "pid": os.getpid(),
            "memory_bytes": psutil.Process().memory_info().rss,
            **self._running().status(),
        }

    async def stop(self) -> None:
        """Ends the subscription."""
        if self._following is not None:
            self._following.cancel()
        await self._store.close()

    def _running(self) -> Replica:
        # Not in `__init__`: Ray runs that outside of the loop that the client must live on.
        if self._replica is None:
            self._replica = Replica(self._registry, self._views, self._store)
            self._following = asyncio.create_task(self._replica.run())
        return self._replica
