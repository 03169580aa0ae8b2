"""How far a store has come, and waiting until it has come further."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from itertools import count, pairwise


class Progress:
    """A position in `$all`, which grows while its store is the same."""

    def __init__(self) -> None:
        self.position = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._given_up = 0
        """At most so many of those that wait do so no more."""

    def begin_at(self, position: int) -> None:
        """Set the position, also to an earlier one: the store is another, or has lost events."""
        self.position = position

    def advance(self, position: int) -> None:
        """Note that the store has reached a position; wake whoever waits for it or for less."""
        if position > self.position:
            self.position = position
        while self._waiting and self._waiting[0][0] <= self.position:
            _, _, waiting = heapq.heappop(self._waiting)
            if not waiting.done():
                waiting.set_result(None)

    def release(self) -> None:
        """Let go whoever waits: the store will come no further."""
        waiting, self._waiting = self._waiting, []
        for _, _, each in waiting:
            if not each.done():
                each.set_result(None)

    async def reached(self, position: int, timeout: float) -> bool:
        """Wait until the store has come so far; False after `timeout` seconds."""
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
        """Forget who waits no more, once that is half of them: clients ask for what never comes."""
        self._given_up += 1
        if 2 * self._given_up > len(self._waiting):
            self._waiting = [each for each in self._waiting if not each[2].done()]
            heapq.heapify(self._waiting)
            self._given_up = 0


OBSERVED = 2_000
"""Times that are remembered of a store that is watched."""

APART = 0.05
"""Seconds between two of them: a store that is asked all the time says often where it is."""


class ObservedProgress(Progress):
    """Of a store elsewhere, as it was seen to come further, with the times of that."""

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
        """Return when it was first seen at that position or beyond; None: not seen to pass it."""
        for (_, before), (at, after) in pairwise(self._seen):
            if before < position <= after:
                return at
        return None
