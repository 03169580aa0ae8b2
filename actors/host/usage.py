"""How an actor is used: its recent load, its idle time, and its steady use before that."""

from __future__ import annotations

from collections import deque

LAPSE = 10.0
"""Seconds without a command after which use no longer counts as steady."""

OVER = 10
"""Whole seconds over which the rate of commands is averaged."""


class Usage:
    """The usage of one actor, in seconds of its own clock."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._since: float | None = None
        self._counts: deque[tuple[int, int]] = deque()

    def used(self, now: float, commands: int = 1) -> None:
        """Record commands."""
        second = int(now)
        before = self._counts.pop()[1] if self._counts and self._counts[-1][0] == second else 0
        self._counts.append((second, before + commands))
        self._drop_before(second - OVER)
        if self._since is None or now - self._last > LAPSE:
            self._since = now
        self._last = now

    def idle(self, now: float) -> float:
        """Return the seconds since the last command, or since the actor was made if none came."""
        return now - self._last

    @property
    def steadily(self) -> float | None:
        """Return for how long it has been in steady use; None if no command has come."""
        return None if self._since is None else self._last - self._since

    def per_second(self, now: float) -> float:
        """Return the commands per second over the last whole seconds."""
        second = int(now)
        self._drop_before(second - OVER)
        return sum(count for at, count in self._counts if at < second) / OVER

    def _drop_before(self, second: int) -> None:
        while self._counts and self._counts[0][0] < second:
            self._counts.popleft()
