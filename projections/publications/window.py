"""Records that were read but not completed: the position up to which everything is done."""

from __future__ import annotations

import asyncio
import time
from collections import deque


class Pending:
    """A record of the log with events in progress; `created` is the record's time.

    `since`, by `time.monotonic`, is when it was read here.
    """

    __slots__ = ("created", "left", "position", "since")

    def __init__(self, position: int, created: int) -> None:
        self.position = position
        self.created = created
        self.since = time.monotonic()
        self.left = 0


class Window:
    """Records in the log's order. Up to the position `done`, everything is completed."""

    def __init__(self, done: int, most: int) -> None:
        self.done = done
        self.waiting = 0
        self._most = most
        self._pending: deque[Pending] = deque()
        self._room = asyncio.Event()
        self._room.set()

    def read(self, position: int, created: int = 0) -> Pending:
        """Record that the log was read up to a position."""
        last = self._pending[-1] if self._pending else None
        if last is not None and not last.left:
            # The previous record has no events in progress: it is replaced, as otherwise, while one
            # event holds up all others, every record without events would be kept.
            last.position, last.created = max(position, last.position), created
            last.since = time.monotonic()
            return last
        pending = Pending(position, created)
        self._pending.append(pending)
        return pending

    def sent(self, pending: Pending) -> None:
        """Record that an event of a record is in progress."""
        pending.left += 1
        self.waiting += 1
        if self.waiting >= self._most:
            self._room.clear()

    def finished(self, pending: Pending) -> None:
        """Record that one of its events has been accepted, or is parked."""
        pending.left -= 1
        self.waiting -= 1
        if self.waiting < self._most:
            self._room.set()
        self.advance()

    def advance(self) -> None:
        """Move `done` past completed records."""
        while self._pending and not self._pending[0].left:
            self.done = max(self.done, self._pending.popleft().position)

    def __len__(self) -> int:
        """Return the number of records that are kept."""
        return len(self._pending)

    @property
    def oldest(self) -> Pending | None:
        """Return the first record with events in progress."""
        return next((each for each in self._pending if each.left), None)

    async def room(self) -> None:
        """Wait until there is room for another event."""
        await self._room.wait()
