"""Which shards a host has, by the newest table that anybody has shown it.

Callers read their tables at different times. One that is behind must not be answered for a shard
that others have by now: an append would find out by its revision, a refusal is checked by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.host.shard import shard_of

Term = tuple[int, int]
"""Of a table: the owner's epoch, and the table's version."""


class Assignment:
    """Of one host. An actor of one aggregate has no shards: it looks at the owner's epoch alone."""

    def __init__(self, *, sharded: bool) -> None:
        self._sharded = sharded
        self.term: Term = (0, 0)
        self._since: dict[int, int] = {}
        """By shard that it ever had: the version at which it came here."""
        self._shards: frozenset[int] = frozenset()

    def unknown(self, term: Term) -> bool:
        """Return whether this is a newer table, which the caller must show."""
        return self._sharded and term > self.term

    def learn(self, term: Term, shards: Mapping[int, int]) -> set[int]:
        """Take over a newer table: shards, and the version at which each came here.

        Return those that others had meanwhile: what is known of their streams is old.
        """
        if term <= self.term:
            return set()
        gained = {shard for shard, since in shards.items() if self._since.get(shard, -1) < since}
        self._since.update(shards)
        self._shards = frozenset(shards)
        self.term = term
        return gained

    def refuses(self, term: Term, stream: str) -> bool:
        """Return whether a caller with this table asks the wrong host."""
        if term[0] < self.term[0]:
            return True
        return self._sharded and term < self.term and shard_of(stream) not in self._shards
