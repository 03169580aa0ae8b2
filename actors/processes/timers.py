"""The timers of many processes: which is due next."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from rayfold.runtime.waking import asleep

LONGEST_SLEEP = 10.0
"""Seconds. Sleeping goes by another clock than timeouts do: the wall's is set ahead, or goes on
while a machine is suspended, and is looked at again so soon."""


class Due(NamedTuple):
    """A timer of a process, its `number`th."""

    due: datetime
    key: str
    name: str
    number: int


class Timers:
    """What processes wait for. A timer that has fired stays until its process goes on without."""

    def __init__(self) -> None:
        self._timers: dict[str, dict[str, Due]] = {}
        self._heap: list[Due] = []
        self._moved = asyncio.Event()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Due]:
        for timers in self._timers.values():
            yield from timers.values()

    def replace(self, key: str, timers: Mapping[str, tuple[int, datetime]]) -> None:
        """Let these be the timers of a process: number and instant by name."""
        before = self._timers.get(key, {})
        if not (before or timers):
            return
        after = {name: Due(due, key, name, number) for name, (number, due) in timers.items()}
        for name, timer in after.items():
            if before.get(name) != timer:
                heapq.heappush(self._heap, timer)
                if self._heap[0] is timer:
                    self.wake()
        self._count += len(after) - len(before)
        if after:
            self._timers[key] = after
        else:
            del self._timers[key]
        self._rebuild_if_stale()

    def forget(self, key: str) -> None:
        """Forget the timers of a process."""
        self.replace(key, {})

    def next_of(self, key: str) -> datetime | None:
        """Return when the next timer of a process is due; None without any."""
        return min((each.due for each in self._timers.get(key, {}).values()), default=None)

    def pop_due(self, now: datetime) -> Iterator[Due]:
        """Take out and yield the timers that are due, the first first."""
        while self._heap and self._heap[0].due <= now:
            timer = heapq.heappop(self._heap)
            if self._timers.get(timer.key, {}).get(timer.name) == timer:
                yield timer

    def wake(self) -> None:
        """Let `sleep` return: look at the clock again."""
        self._moved.set()

    async def sleep(self, now: datetime) -> None:
        """Wait until the next one is due, or another one may be the next."""
        wait = (self._heap[0].due - now).total_seconds() if self._heap else LONGEST_SLEEP
        await asleep(min(wait, LONGEST_SLEEP), self._moved)

    def _rebuild_if_stale(self) -> None:
        """Drop what was moved or forgotten, once that is most of the heap."""
        if len(self._heap) > 2 * self._count + 1000:
            self._heap = [each for each in self._heap if self._is_current(each)]
            heapq.heapify(self._heap)

    def _is_current(self, timer: Due) -> bool:
        return self._timers.get(timer.key, {}).get(timer.name) == timer
