"""The partitions of a view's keys: which one a key belongs to, and what each one covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32


def hash_of(key: str) -> int:
    """Return a 32-bit hash; modulo the number of partitions, it gives the key's partition."""
    return crc32(key.encode())


class AlreadyProjected:
    """The events that a table includes: for every key, those up to its partition's checkpoint.

    This is exact also for keys without a row, where a row's own position cannot be: a row that an
    event removed must not begin again with events before that one.
    """

    def __init__(self, checkpoints: Sequence[int], gone: Mapping[str, int] | None = None) -> None:
        """`checkpoints` has those of all partitions, in order; there is at least one.

        `gone` has keys whose rows were removed while others were copied, with the position: the
        table includes their events up to there.
        """
        self._checkpoints = list(checkpoints)
        self._gone = gone or {}
        self.least = min(checkpoints)
        self.most = max([*checkpoints, *self._gone.values()])

    def within(self, end: int) -> AlreadyProjected:
        """Return the same for a log that ends there: later events are not included."""
        gone = {key: min(at, end) for key, at in self._gone.items()}
        return AlreadyProjected([min(at, end) for at in self._checkpoints], gone)

    def has(self, key: str, position: int) -> bool:
        """Return whether the table includes the key's event at that position."""
        if position <= self._checkpoints[hash_of(key) % len(self._checkpoints)]:
            return True
        return bool(self._gone) and position <= self._gone.get(key, 0)
