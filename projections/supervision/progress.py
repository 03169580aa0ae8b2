"""How far a store has come, and waiting until it has come further."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from itertools import count, pairwise


class Progress:
    """A position in `$all`, which increases while its store is the same."""

    def __init__(self) -> None:
        self.position = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._given_up = 0
        """An upper bound of the entries in `_waiting` that are abandoned."""

    def begin_at(self, position: int) -> None:
        """Set the position, perhaps to an earlier one: the store is another, or has lost events."""
        self.position = position

    def advance(self, position: int) -> None:
        """Record that the store has reached a position; wake callers that wait for that or less."""
        if position > self.position:
            self.position = position
        while self._waiting and self._waiting[0][0] <= self.position:
            _, _, waiting = heapq.heappop(self._waiting)
            if not waiting.done():
                waiting.set_result(None)

    def release(self) -> None:
        """Release all callers: the store will come no further."""
        waiting, self._waiting = self._waiting, []
        for _, _, each in waiting:
            if not each.done():
                each.set_result(None)

    async def reached(self, position: int, timeout: float) -> bool:
        """Wait until the store has reached a position; return False after `timeout` seconds."""
        if self.position >= position:
            return True
        if timeout <= 0:
            return False
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (position, next(self._order), waiting))
        try:
            await asyncio.wait([waiting], timeout=timeout)
        finally:
            if waiting.cancel():
                self._gave_up()
        return self.position >= position

    def _gave_up(self) -> None:
        """Remove abandoned entries once they are half: clients may wait for what never comes."""
        self._given_up += 1
        if 2 * self._given_up > len(self._waiting):
            self._waiting = [each for each in self._waiting if not each[2].done()]
            heapq.heapify(self._waiting)
            self._given_up = 0


OBSERVED = 2_000
"""The most times that are kept for an observed store."""

APART = 0.05
"""Seconds between two kept times: a busy store reports its position often."""


class ObservedProgress(Progress):
    """The observed progress of a store in another process, with times."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: deque[tuple[float, int]] = deque(maxlen=OBSERVED)

    def advance(self, position: int) -> None:
        """See `Progress.advance`."""
        if position > self.position:
            now = time.time()
            if not self._seen or now - self._seen[-1][0] > APART:
                self._seen.append((now, position))
        super().advance(position)

    def passed(self, position: int) -> float | None:
        """Return when it was first seen at or beyond that position; None if that was not seen."""
        for (_, before), (at, after) in pairwise(self._seen):
            if before < position <= after:
                return at
        return None
