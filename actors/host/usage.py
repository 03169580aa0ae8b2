"""How an actor is used: for how long it has been idle, and for how long in use before that."""

from __future__ import annotations

LAPSE = 10.0
"""Seconds without a command after which an actor was not in use steadily."""


class Usage:
    """Of one actor, in seconds by its own clock."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._since: float | None = None

    def used(self, now: float) -> None:
        """Take note of a command."""
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
