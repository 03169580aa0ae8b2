"""The shards assigned to a host, according to the newest shard table that a caller has sent it.

Callers read the table at different times. A caller with an old table must not get an answer for a
shard that has moved to another host: an append would fail on its expected revision, but nothing
would check a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping

from actors.host.shard import shard_of

Term = tuple[int, int]
"""The age of a table: the owner's epoch, then the table's version."""


class Assignment:
    """The assignment of one host. A dedicated actor has no shards: it only compares the owner's
    epoch.
    """

    def __init__(self, *, sharded: bool) -> None:
        self._sharded = sharded
        self.term: Term = (0, 0)
        self._since: dict[int, int] = {}
        """For each shard that was ever here: the version at which it last arrived."""
        self._shards: frozenset[int] = frozenset()

    def unknown(self, term: Term) -> bool:
        """Return whether this is a newer table, so that the caller must send it."""
        return self._sharded and term > self.term

    def learn(self, term: Term, shards: Mapping[int, int]) -> set[int]:
        """Adopt a newer table, given as shards with the version at which each arrived here.

        Return the shards that were at other hosts meanwhile: cached state of their streams is
        outdated.
        """
        if term <= self.term:
            return set()
        gained = {shard for shard, since in shards.items() if self._since.get(shard, -1) < since}
        self._since.update(shards)
        self._shards = frozenset(shards)
        self.term = term
        return gained

    def refuses(self, term: Term, stream: str) -> bool:
        """Return whether a caller with a table of this age has asked the wrong host."""
        if term[0] < self.term[0]:
            return True
        return self._sharded and term < self.term and shard_of(stream) not in self._shards
