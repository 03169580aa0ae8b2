"""Measures for how many seconds a part has been behind the log's end."""

from __future__ import annotations

from collections import deque

REMEMBERED = 1200
"""Observations of the log's end to keep; older lag counts from the first of them."""


class Lag:
    """The observed ends of the log, with times."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)

    def saw(self, now: float, end: int) -> None:
        """Record that the log ended at this position at `now`, in seconds."""
        self._ends.append((now, end))

    @property
    def end(self) -> int:
        """The last observed end of the log."""
        return self._ends[-1][1] if self._ends else 0

    def growth(self, over: float) -> float:
        """Return by how many positions per second it grew in the last `over` seconds."""
        if len(self._ends) < 2:
            return 0.0
        now, end = self._ends[-1]
        began, first = next(each for each in self._ends if each[0] >= now - over)
        return (end - first) / (now - began) if now > began else 0.0

    def of(self, position: int, now: float) -> float:
        """Return the seconds since the log was first seen beyond that position; 0 if it is not."""
        if position >= self.end:
            return 0.0
        return next(now - at for at, end in self._ends if end > position)
