"""Histograms of durations for Prometheus: counts by upper bound, with traces as exemplars."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""


class Exemplar(NamedTuple):
    """A traced observation: its trace, its duration, and when, in seconds since the epoch."""

    trace_id: str
    seconds: float
    at: float


class Histogram:
    """The histogram of one series."""

    __slots__ = ("_counts", "_exemplars", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def observe(self, seconds: float, trace_id: str = "") -> None:
        """Count an observation; `trace_id` if it was traced."""
        bucket = bisect_left(BOUNDS, seconds)
        self._counts[bucket] += 1
        self._sum += seconds
        if trace_id:
            self._exemplars[bucket] = Exemplar(trace_id, seconds, time.time())

    def buckets(self) -> Iterator[tuple[str, int, Exemplar | None]]:
        """Yield each upper bound as text, the cumulative count, and the bucket's last exemplar."""
        below = 0
        for at, count in enumerate(self._counts):
            below += count
            bound = repr(BOUNDS[at]) if at < len(BOUNDS) else "+Inf"
            yield bound, below, self._exemplars.get(at)

    @property
    def sum(self) -> float:
        """Return the sum of all observations in seconds."""
        return self._sum

    @property
    def count(self) -> int:
        """Return the number of observations."""
        return sum(self._counts)
