"""The connections of one server: it ends slow ones, and the idlest if there are too many."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from api.http.limits import Limits

_ACCEPTED = 0.05
"""Seconds until a connection that the kernel has handed over is in our list."""

SWEEP = 0.5
"""Seconds between two checks of all connections."""


class Connection(Protocol):
    """What `Connections` needs of a connection; see `api.http.protocol`."""

    @property
    def answering(self) -> bool:
        """Whether a complete request waits for its answer, so that its client is not slow."""
        ...

    @property
    def idle_since(self) -> float:
        """When the client last made progress, on the loop's clock."""
        ...

    def expire(self, now: float) -> None:
        """End the connection if its client has taken longer than the limits allow."""
        ...

    def drop(self) -> None:
        """End the connection at once."""
        ...

    def turn_away(self) -> None:
        """Tell the client that there are too many connections, and end this one."""
        ...


class Connections:
    """Keeps connections within the limits. A slow client never keeps others out."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.draining = False
        """Whether every answer is the last on its connection."""
        self._open: set[Connection] = set()
        self._gone = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, new: Connection) -> None:
        """Add a new connection; if there are too many, end the idlest."""
        if len(self._open) >= self.limits.connections:
            idle = [each for each in self._open if not each.answering]
            if not idle:
                new.turn_away()
                return
            longest = min(idle, key=lambda each: each.idle_since)
            self._open.discard(longest)  # counted until it has ended, but not to be chosen twice
            longest.drop()
        self._open.add(new)

    def remove(self, gone: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(gone)
        if self.draining:
            self._gone.set()

    async def drained(self, timeout: float) -> None:
        """Wait until every client has got its last answer, for at most `timeout` seconds."""
        self.draining = True
        await asyncio.sleep(_ACCEPTED)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._open:
                    self._gone.clear()
                    await self._gone.wait()

    def end_idle(self) -> None:
        """End the connections that wait for their client, because the server stops."""
        for each in list(self._open):
            if not each.answering:
                each.drop()

    async def watch(self) -> None:
        """End connections that have taken too long, until cancelled.

        Checking all of them twice a second costs less than timers for each request.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(SWEEP)
            now = clock()
            for each in list(self._open):
                each.expire(now)
