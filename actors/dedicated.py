"""Aggregates that have an actor each: made on first use, let go when idle."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from actors.envelope import Envelope, Outcome
from actors.errors import Overloaded
from actors.host_client import HostClient

log = logging.getLogger(__name__)


class Dedicated:
    """Writers by stream, the least recently used first; at most `most` of them."""

    def __init__(
        self,
        make: Callable[[str], Any],
        end: Callable[[Any], Awaitable[None]],
        *,
        most: int,
        idle: float,
    ) -> None:
        """`make` gives the actor of a stream, `end` drains and removes one; `idle` in seconds."""
        self._make = make
        self._end = end
        self._most = most
        self._idle = idle
        self._writers: OrderedDict[str, HostClient] = OrderedDict()
        self._leaving: dict[str, asyncio.Task[None]] = {}

    @property
    def writers(self) -> list[HostClient]:
        """Those that are there."""
        return list(self._writers.values())

    async def send(self, envelope: Envelope) -> Outcome:
        """Return the outcome from the stream's own actor; `Overloaded` if none may be ended now."""
        stream = envelope.stream
        leaving = self._leaving.get(stream)
        if leaving is not None:
            await asyncio.wait([leaving])
        writer = self._writers.get(stream)
        if writer is None:
            if len(self._writers) >= self._most and not self._evict_one():
                return Overloaded()
            writer = self._writers[stream] = HostClient(partial(self._make, stream))
        self._writers.move_to_end(stream)
        return await writer.send(envelope)

    def sweep(self) -> None:
        """Lets those go that were idle for long."""
        oldest = time.monotonic() - self._idle
        for stream, writer in list(self._writers.items()):
            if writer.used > oldest:
                break
            if not writer.open:
                self._let_go(stream)

    async def close(self) -> None:
        """Lets all go."""
        for stream in list(self._writers):
            self._let_go(stream)
        while self._leaving:
            await asyncio.wait(list(self._leaving.values()))

    async def status(self) -> list[dict[str, Any]]:
        """One entry for all of them."""
        return [
            {
                "part": "write:dedicated",
                "kind": "write",
                "ready": True,
                "actors": len(self._writers),
                "most": self._most,
                "waiting": sum(writer.open for writer in self._writers.values()),
            }
        ]

    def _evict_one(self) -> bool:
        for stream, writer in self._writers.items():
            if not writer.open:
                self._let_go(stream)
                return True
        return False

    def _let_go(self, stream: str) -> None:
        writer = self._writers.pop(stream)
        task = asyncio.create_task(self._leave(writer))
        self._leaving[stream] = task
        task.add_done_callback(lambda _: self._leaving.pop(stream, None))

    async def _leave(self, writer: HostClient) -> None:
        await self._end(writer.actor)
        await writer.close()
