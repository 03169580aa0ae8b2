"""The condition of a part over time: since when it is not ready, and how fast it progresses."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from eventstore.records import RawRecord

OVER = 10.0
"""Seconds over which its speed is measured."""

LONG = 1.0
"""Seconds of work on one batch after which the status names it."""


class AtWork(NamedTuple):
    """A batch of events that is being processed: since when, its first event, their number."""

    since: float
    first: RawRecord
    events: int

    @classmethod
    def begins(cls, records: Sequence[RawRecord]) -> AtWork:
        """Return a batch that begins now."""
        return cls(time.monotonic(), records[0], len(records))


def working_on(batch: AtWork | None) -> dict[str, Any]:
    """Return `working`, for the status of a part that has long been processing one batch."""
    if batch is None or (seconds := time.monotonic() - batch.since) < LONG:
        return {}
    place = f"{batch.first.revision}@{batch.first.stream}"
    return {"working": {"event": place, "events": batch.events, "seconds": round(seconds, 1)}}


class Condition:
    """The results of the checks of a part."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._places: deque[tuple[float, int]] = deque()

    def saw(self, *, ready: bool, position: int | None = None) -> None:
        """Record the result of a check; `position` is None if it is unknown."""
        if ready:
            self._since = None
        elif self._since is None:
            self._since = datetime.now(UTC)
        if position is None:
            return
        now = time.monotonic()
        if self._places and position < self._places[-1][1]:  # it begins again
            self._places.clear()
        self._places.append((now, position))
        while self._places[0][0] < now - OVER:
            self._places.popleft()

    @property
    def per_second(self) -> float:
        """The positions by which it has recently advanced per second."""
        if len(self._places) < 2:
            return 0.0
        (began, first), (now, last) = self._places[0], self._places[-1]
        return (last - first) / (now - began) if now > began else 0.0

    def status(self) -> dict[str, Any]:
        """Return it for operators; `since` if it is not ready."""
        since = self._since
        return {
            "per_second": round(self.per_second, 1),
            **({"since": since.isoformat(timespec="milliseconds")} if since else {}),
        }
