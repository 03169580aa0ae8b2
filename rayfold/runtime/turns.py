"""Turns on an event loop: long computations let other tasks run in between.

A user's code takes as long as it takes: a fold, a decision, the key of a row. Where many of them
follow each other without a pause, their process answers nobody meanwhile, and is taken for one that
hangs: it would be ended, and begin the same again.
"""

from __future__ import annotations

import asyncio
import time

TURN = 0.002
"""Seconds."""


class Turn:
    """One of `seconds`, which begins when it is made. It is `over` when others should be let in."""

    __slots__ = ("_seconds", "_until")

    def __init__(self, seconds: float = TURN) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() > self._until

    async def pass_on(self) -> None:
        """Let others in if the turn is over; then the next one begins."""
        if self.over:
            await asyncio.sleep(0)
            self._until = time.monotonic() + self._seconds
