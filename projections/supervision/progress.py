"""How far a store has come, and who waits for it to come further."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class Progress:
    """A position in `$all` that only grows."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    def advance(self, position: int) -> None:
        """Note that the store has come so far; wake whom that satisfies."""
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
        await asyncio.wait([waiting], timeout=timeout)
        waiting.cancel()
        return self.position >= position
