"""How the number of users changes during a run: chosen by `RAYFOLD_SHAPE`."""

from __future__ import annotations

from typing import ClassVar

from locust import LoadTestShape


class Steps(LoadTestShape):
    """Stages of (seconds since the start, users, users started a second)."""

    abstract = True
    stages: ClassVar[list[tuple[int, int, int]]] = []

    def tick(self) -> tuple[int, float] | None:
        """Return the stage in force; None at the end."""
        now: float = self.get_run_time()  # type: ignore[no-untyped-call]
        for until, users, rate in self.stages:
            if now < until:
                return users, rate
        return None


class Ramp(Steps):
    """More users every ten seconds: where does latency bend?"""

    abstract = True
    stages: ClassVar = [(10 * step, 10 * step, 10) for step in range(1, 13)]


class Spike(Steps):
    """Quiet, then ten times as many at once, then quiet again."""

    abstract = True
    stages: ClassVar = [(20, 10, 10), (40, 100, 100), (60, 10, 10)]


class Soak(Steps):
    """The same load for half an hour: does anything grow?"""

    abstract = True
    stages: ClassVar = [(1800, 30, 10)]


SHAPES: dict[str, type[Steps]] = {"ramp": Ramp, "spike": Spike, "soak": Soak}
