"""What was read of the log and is not done yet: up to where everything is."""

from __future__ import annotations

import asyncio
import time
from collections import deque


class Pending:
    """A record of the log with events that are on their way; `created` is as the record has it.

    `since`, by `time.monotonic`, it is known here.
    """

    __slots__ = ("created", "left", "position", "since")

    def __init__(self, position: int, created: int) -> None:
        self.position = position
        self.created = created
        self.since = time.monotonic()
        self.left = 0


class Window:
    """Records in the log's order. `done` is the position up to which nothing is on its way."""

    def __init__(self, done: int, most: int) -> None:
        self.done = done
        self.waiting = 0
        self._most = most
        self._pending: deque[Pending] = deque()
        self._room = asyncio.Event()
        self._room.set()

    def read(self, position: int, created: int = 0) -> Pending:
        """Note that the log was read up to there."""
        last = self._pending[-1] if self._pending else None
        if last is not None and not last.left:
            # Of the one before nothing is on its way: while an event holds all others up, what
            # nobody is told of would be remembered one by one.
            last.position, last.created = max(position, last.position), created
            last.since = time.monotonic()
            return last
        pending = Pending(position, created)
        self._pending.append(pending)
        return pending

    def sent(self, pending: Pending) -> None:
        """Note that an event of that record is on its way."""
        pending.left += 1
        self.waiting += 1
        if self.waiting >= self._most:
            self._room.clear()

    def finished(self, pending: Pending) -> None:
        """Note that one of its events has been taken, or is parked."""
        pending.left -= 1
        self.waiting -= 1
        if self.waiting < self._most:
            self._room.set()
        self.advance()

    def advance(self) -> None:
        """Move `done` past what has nothing on its way."""
        while self._pending and not self._pending[0].left:
            self.done = max(self.done, self._pending.popleft().position)

    def __len__(self) -> int:
        """Return the number of records that are remembered."""
        return len(self._pending)

    @property
    def oldest(self) -> Pending | None:
        """Return the first record with something on its way."""
        return next((each for each in self._pending if each.left), None)

    async def room(self) -> None:
        """Wait until there is room for another event."""
        await self._room.wait()
