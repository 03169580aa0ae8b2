"""The timers of many processes: which one is due next."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from rayfold.runtime.waking import asleep

LONGEST_SLEEP = 10.0
"""The longest sleep, in seconds. Sleeping uses another clock than timeouts do: the wall clock may
be set, or go on while a machine is suspended, and is checked again after this time.
"""


class Due(NamedTuple):
    """A process's timer that is due; `number` is its number."""

    due: datetime
    key: str
    name: str
    number: int


class Timers:
    """The timers of processes. A fired timer stays until its process's timers are replaced."""

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
        """Replace the timers of a process: number and time by name."""
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
        """Remove and yield the timers that are due, the earliest first."""
        while self._heap and self._heap[0].due <= now:
            timer = heapq.heappop(self._heap)
            if self._timers.get(timer.key, {}).get(timer.name) == timer:
                yield timer

    def wake(self) -> None:
        """Make `sleep` return, so that the clock is checked again."""
        self._moved.set()

    async def sleep(self, now: datetime) -> None:
        """Wait until the next timer is due, or another one may be the next."""
        wait = (self._heap[0].due - now).total_seconds() if self._heap else LONGEST_SLEEP
        await asleep(min(wait, LONGEST_SLEEP), self._moved)

    def _rebuild_if_stale(self) -> None:
        """Remove outdated entries once they are most of the heap."""
        if len(self._heap) > 2 * self._count + 1000:
            self._heap = [each for each in self._heap if self._is_current(each)]
            heapq.heapify(self._heap)

    def _is_current(self, timer: Due) -> bool:
        return self._timers.get(timer.key, {}).get(timer.name) == timer
