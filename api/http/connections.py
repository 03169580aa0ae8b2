"""The connections of one server: which is closed to make room, and which has timed out."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from api.http.limits import Limits

_ACCEPTED = 0.05
"""Seconds in which a connection that the kernel has handed to us is in our list."""

SWEEP = 0.5
"""Seconds between two looks at all connections."""


class Connection(Protocol):
    """What is to be known of a connection; see `api.http.protocol`."""

    @property
    def answering(self) -> bool:
        """Whether a whole request waits for its answer, so that its client is not to blame."""
        ...

    @property
    def idle_since(self) -> float:
        """When its client last made progress, on the loop's clock."""
        ...

    def expire(self, now: float) -> None:
        """End it if its client has taken longer than the limits allow."""
        ...

    def drop(self) -> None:
        """End it at once."""
        ...

    def turn_away(self) -> None:
        """Tell its client that there are too many, and end it."""
        ...


class Connections:
    """Keeps connections within the limits. A slow client never keeps others out."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.draining = False
        """Whether each answer is its connection's last."""
        self._open: set[Connection] = set()
        self._gone = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, new: Connection) -> None:
        """Take in a new connection; where there are too many, the idlest ends."""
        if len(self._open) >= self.limits.connections:
            idle = [each for each in self._open if not each.answering]
            if not idle:
                new.turn_away()
                return
            longest = min(idle, key=lambda each: each.idle_since)
            self._open.discard(longest)  # it is counted until then, and must not be chosen twice
            longest.drop()
        self._open.add(new)

    def remove(self, gone: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(gone)
        if self.draining:
            self._gone.set()

    async def drained(self, timeout: float) -> None:
        """Wait until every client has had its last answer here, for so many seconds at most."""
        self.draining = True
        await asyncio.sleep(_ACCEPTED)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._open:
                    self._gone.clear()
                    await self._gone.wait()

    def end_idle(self) -> None:
        """End those that wait for their client, as the server stops."""
        for each in list(self._open):
            if not each.answering:
                each.drop()

    async def watch(self) -> None:
        """End what has taken too long, until cancelled.

        One look at all twice a second costs less than timers for each request.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(SWEEP)
            now = clock()
            for each in list(self._open):
                each.expire(now)
