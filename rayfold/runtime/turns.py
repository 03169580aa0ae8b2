"""Turns on an event loop: long computations let other tasks run in between.

Code of the domain (a fold, a decision, the key of a row) may take long. If many such calls follow
each other without a pause, the process answers no calls meanwhile, looks as if it hung, and would
be ended, only to begin the same work again.
"""

from __future__ import annotations

import asyncio
import time

TURN = 0.002
"""Seconds of a turn by default."""


class Turn:
    """A turn of `seconds`, which begins on construction. When `over`, other tasks should run."""

    __slots__ = ("_seconds", "_until")

    def __init__(self, seconds: float = TURN) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() > self._until

    async def pass_on(self) -> None:
        """If the turn is over, let other tasks run and begin the next turn."""
        if self.over:
            await asyncio.sleep(0)
            self._until = time.monotonic() + self._seconds
