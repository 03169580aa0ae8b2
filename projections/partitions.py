"""The partitions of a view's keys: which one a key belongs to, and what each of them covers."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32


def hash_of(key: str) -> int:
    """Its remainder by the number of partitions is the partition that a row belongs to."""
    return crc32(key.encode())


class AlreadyProjected:
    """What a table holds: of every key, the events up to its partition's checkpoint.

    Exact also for keys without a row, which a row's own position cannot be: one that an event
    removed must not begin again with what came before that event.
    """

    def __init__(self, checkpoints: Sequence[int]) -> None:
        """`checkpoints` of all partitions, in their order; there is at least one."""
        self._checkpoints = list(checkpoints)
        self.least, self.most = min(checkpoints), max(checkpoints)

    def within(self, end: int) -> AlreadyProjected:
        """Return the same of a log that ends there: what is written to it later is not covered."""
        return AlreadyProjected([min(at, end) for at in self._checkpoints])

    def has(self, key: str, position: int) -> bool:
        """Whether what happened to the key at that position is in the table."""
        return position <= self._checkpoints[hash_of(key) % len(self._checkpoints)]
