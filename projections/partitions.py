"""The partitions of a view's keys: which one a key belongs to, and what each one covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32


def hash_of(key: str) -> int:
    """Return a number of 32 bits, whose remainder by the number of partitions is the key's."""
    return crc32(key.encode())


class AlreadyProjected:
    """What a table holds: of every key, the events up to its partition's checkpoint.

    Exact also for keys without a row, which a row's own position cannot be: one that an event
    removed must not begin again with what came before that event.
    """

    def __init__(self, checkpoints: Sequence[int], gone: Mapping[str, int] | None = None) -> None:
        """`checkpoints` of all partitions, in their order; there is at least one.

        `gone` has keys whose rows went while the others were copied, and where: what happened to
        them up to there is in the table, which does not have them.
        """
        self._checkpoints = list(checkpoints)
        self._gone = gone or {}
        self.least = min(checkpoints)
        self.most = max([*checkpoints, *self._gone.values()])

    def within(self, end: int) -> AlreadyProjected:
        """Return the same of a log that ends there: what is written to it later is not covered."""
        gone = {key: min(at, end) for key, at in self._gone.items()}
        return AlreadyProjected([min(at, end) for at in self._checkpoints], gone)

    def has(self, key: str, position: int) -> bool:
        """Return whether what happened to the key at that position is in the table."""
        if position <= self._checkpoints[hash_of(key) % len(self._checkpoints)]:
            return True
        return bool(self._gone) and position <= self._gone.get(key, 0)
