"""How an actor is used: how much lately, for how long it has been idle, and in use before that."""

from __future__ import annotations

from collections import deque

LAPSE = 10.0
"""Seconds without a command after which an actor was not in use steadily."""

OVER = 10
"""Whole seconds over which the commands of a second are counted."""


class Usage:
    """Of one actor, in seconds by its own clock."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._since: float | None = None
        self._counts: deque[tuple[int, int]] = deque()

    def used(self, now: float, commands: int = 1) -> None:
        """Take note of commands."""
        second = int(now)
        before = self._counts.pop()[1] if self._counts and self._counts[-1][0] == second else 0
        self._counts.append((second, before + commands))
        self._drop_before(second - OVER)
        if self._since is None or now - self._last > LAPSE:
            self._since = now
        self._last = now

    def idle(self, now: float) -> float:
        """Return how long ago the last command came; or it was made, where none has come."""
        return now - self._last

    @property
    def steadily(self) -> float | None:
        """Return for how long it was in use without a lapse; None where no command has come."""
        return None if self._since is None else self._last - self._since

    def per_second(self, now: float) -> float:
        """Return how many commands came in a second, over the last whole ones."""
        second = int(now)
        self._drop_before(second - OVER)
        return sum(count for at, count in self._counts if at < second) / OVER

    def _drop_before(self, second: int) -> None:
        while self._counts and self._counts[0][0] < second:
            self._counts.popleft()
