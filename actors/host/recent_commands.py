"""The recent commands of an aggregate, so that a repeat appends nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

ALWAYS_REMEMBERED = 256
"""This many of an aggregate's latest commands are always remembered, even after a crash."""

RETENTION = 600.0
"""Seconds: while the aggregate is in memory, all commands younger than this are remembered too."""

MAX_REMEMBERED = 20_000
"""The limit on remembered commands, however hot the aggregate: each costs about 300 bytes."""


class Seen(NamedTuple):
    """A command that is recorded in the log. `position` is that of its receipt; 0 if unknown.

    If the command was found by reading the log, `exact` is false: `position` is then the event's
    own, while the receipt gave that of the whole group commit.

    `at`, in seconds, is by the event store's clock, or extrapolated from it: see `now`.
    """

    fingerprint: str
    revision: int
    position: int
    exact: bool
    at: float


class RecentCommands:
    """Commands by id, oldest first."""

    __slots__ = ("_ahead", "_seen")

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._ahead: float | None = None
        """In seconds of the monotonic clock."""

    def __len__(self) -> int:
        return len(self._seen)

    def get(self, command_id: str) -> Seen | None:
        """Return the command with that id if it is still remembered."""
        return self._seen.get(command_id)

    def add(self, command_id: str, seen: Seen) -> None:
        """Remember a command; forget the oldest ones beyond the window."""
        self._seen.pop(command_id, None)
        self._seen[command_id] = seen
        self._ahead = seen.at - time.monotonic()
        while len(self._seen) > ALWAYS_REMEMBERED:
            oldest = next(iter(self._seen))
            recent = seen.at - self._seen[oldest].at < RETENTION
            if recent and len(self._seen) <= MAX_REMEMBERED:
                return
            del self._seen[oldest]

    def latest(self, count: int) -> Iterator[tuple[str, Seen]]:
        """Return the last `count` commands, oldest first."""
        items = list(self._seen.items())
        return iter(items[-count:])

    def now(self) -> float:
        """Return `Seen.at` for a command seen now: the latest `at` plus the time since.

        Not from this host's wall clock, which may be changed, or differ from the event store's:
        then all but the last few commands would seem old at once.
        """
        return time.time() if self._ahead is None else time.monotonic() + self._ahead
