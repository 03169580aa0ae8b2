"""The commands that an aggregate has seen lately, so that a repeat appends nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

ALWAYS_REMEMBERED = 256
"""As many of an aggregate's latest commands are remembered always, also after a crash."""

RETENTION = 600.0
"""Seconds. While the aggregate is in memory, so are all that are not older."""

MAX_REMEMBERED = 20_000
"""But not more than these, however hot the aggregate: each costs about 300 bytes."""


class Seen(NamedTuple):
    """A command that stands in the log. `position` is its receipt's; 0: nobody has looked.

    Where the log was read to learn of the command, `exact` is false: then `position` is
    the event's own, while the receipt gave that of the whole group commit it was written in.

    `at`, in seconds, is of the event store's clock, or goes on from there: see `now`.
    """

    fingerprint: str
    revision: int
    position: int
    exact: bool
    at: float


class RecentCommands:
    """Commands by id, the oldest first."""

    __slots__ = ("_ahead", "_seen")

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._ahead: float | None = None
        """Of the monotonic clock."""

    def __len__(self) -> int:
        return len(self._seen)

    def get(self, command_id: str) -> Seen | None:
        """Return the command with that id, if it is still remembered."""
        return self._seen.get(command_id)

    def add(self, command_id: str, seen: Seen) -> None:
        """Remember a command; forget the oldest that are beyond the window."""
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
        """Return the last `count` of them, the oldest first."""
        items = list(self._seen.items())
        return iter(items[-count:])

    def now(self) -> float:
        """Return `Seen.at` of a command that is seen now: after the latest, by the time since.

        Not by this host's wall clock, which may be set, or differ from the event store's: all but
        the last few would count as old at once.
        """
        return time.time() if self._ahead is None else time.monotonic() + self._ahead
