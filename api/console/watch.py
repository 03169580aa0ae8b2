"""Live status of parts and rates, read once a second for all open pages."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from api.operators.metrics import Metrics
from api.operators.routes import Operations
from rayfold import RayfoldError
from rayfold.runtime.lasting import lasting

EVERY = 1.0
"""Seconds between two readings."""

REMEMBERED = 300
"""The number of samples that a chart begins with."""


class Sample(NamedTuple):
    """One point of the charts; `at` is in seconds since the epoch, rates are per second."""

    at: float
    commands: float | None
    queries: float | None
    lags: dict[str, float]
    """Seconds that each view is behind the log, by its slowest part."""


class Look(NamedTuple):
    """One reading. `error` says why the status could not be read."""

    parts: Sequence[dict[str, Any]]
    rebuilds: Sequence[dict[str, Any]]
    error: str = ""


class Watch:
    """Reads the status, but only while a page is open."""

    def __init__(self, operations: Operations, metrics: Metrics) -> None:
        self._operations = operations
        self._metrics = metrics
        self._samples: deque[Sample] = deque(maxlen=REMEMBERED)
        self._watchers = 0
        self._looking: asyncio.Task[None] | None = None
        self._next: asyncio.Future[tuple[Look, Sample]] | None = None
        self._counted: tuple[float, int, int] | None = None

    @property
    def samples(self) -> Sequence[Sample]:
        """The last samples, the oldest first."""
        return list(self._samples)

    async def look(self) -> Look:
        """Read the status once."""
        try:
            parts = await self._operations.parts()
        except RayfoldError as error:
            return Look([], [], str(error))
        try:
            return Look(parts, await self._operations.rebuilds())
        except RayfoldError:  # the rest is still useful
            return Look(parts, [])

    async def follow(self) -> AsyncGenerator[tuple[Look, Sample], None]:
        """Yield every reading from now on."""
        self._watchers += 1
        try:
            while True:
                if self._next is None:
                    self._next = asyncio.get_running_loop().create_future()
                if self._looking is None or self._looking.done():
                    self._looking = asyncio.create_task(lasting(self._look_always, "the console"))
                yield await asyncio.shield(self._next)
        finally:
            self._watchers -= 1

    async def _look_always(self) -> None:
        while self._watchers:
            seen = await self.look()
            sample = self._sample(seen.parts)
            self._samples.append(sample)
            waiting, self._next = self._next, None
            if waiting is not None and not waiting.done():
                waiting.set_result((seen, sample))
            await asyncio.sleep(EVERY)
        self._counted = None  # a rate over a time without readings would be wrong

    def _sample(self, parts: Sequence[dict[str, Any]]) -> Sample:
        counted = (time.monotonic(), self._metrics.commands_taken, self._metrics.queries_asked)
        before, self._counted = self._counted, counted
        commands = queries = None
        if before is not None:
            passed = counted[0] - before[0]
            commands = round((counted[1] - before[1]) / passed, 1)
            queries = round((counted[2] - before[2]) / passed, 1)
        lags: dict[str, float] = {}
        for part in parts:
            for view in part.get("views", ()):
                lags[view] = max(lags.get(view, 0.0), part.get("lag_seconds", 0.0))
        return Sample(datetime.now(UTC).timestamp(), commands, queries, lags)
