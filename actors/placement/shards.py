"""The table that maps logical shards, and so aggregates, to hosts."""

from __future__ import annotations

from typing import Any

from actors.host.shard import SHARDS, shard_of

Moves = dict[int, set[int]]
"""By host: the shards that it has gained."""


class ShardTable:
    """Maps shards to hosts. An outdated table costs a conflict and a fold, never an event.

    Each shard has a home host. While that host is away, another host serves the shard.
    """

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts
        self._home = [shard % hosts for shard in range(SHARDS)]
        self._host = list(self._home)
        self._away: set[int] = set()
        self.version = 1
        """Incremented whenever others must learn of a change."""
        self._since = [1] * SHARDS
        """For each shard, the version at which it came to its host."""

    @classmethod
    def read(cls, plain: dict[str, Any]) -> ShardTable:
        """Return the table that `plain` gave, to continue where the previous owner left it."""
        table = cls(len(plain["hosts"]))
        table._home = list(plain["homes"])
        table._host = list(plain["shards"])
        table._since = list(plain["since"])
        table.version = plain["version"] + 1
        return table

    def plain(self) -> dict[str, Any]:
        """Return the table as plain JSON, without the hosts themselves."""
        return {
            "version": self.version,
            "shards": list(self._host),
            "since": list(self._since),
            "homes": list(self._home),
        }

    def touch(self) -> None:
        """Increment the version: a host was replaced."""
        self.version += 1

    def shards_of(self, host: int) -> dict[int, int]:
        """Return the host's shards with the version at which each came there."""
        return {s: self._since[s] for s, at in enumerate(self._host) if at == host}

    def host_of(self, stream: str) -> int:
        """Return the number of the host that serves the stream."""
        return self._host[shard_of(stream)]

    def count(self, host: int) -> int:
        """Return how many shards the host has."""
        return self._host.count(host)

    def lose(self, host: int) -> Moves:
        """Give a host's shards to the others evenly; it keeps them if there is no other."""
        self._away.add(host)
        return self._settle()

    def rejoin(self, host: int) -> Moves:
        """Give a host its shards back: it has returned."""
        self._away.discard(host)
        return self._settle()

    def spread(self, hosts: int) -> Moves:
        """Spread the shards evenly over the hosts 0 to `hosts` - 1.

        As few as possible move: a host keeps its own up to its fair share.
        """
        share, rest = divmod(SHARDS, hosts)
        room = [share + (host < rest) for host in range(hosts)]
        displaced = []
        for shard, host in enumerate(self._home):
            if host < hosts and room[host]:
                room[host] -= 1
            else:
                displaced.append(shard)
        free = (host for host in range(hosts) for _ in range(room[host]))
        for shard, host in zip(displaced, free, strict=True):
            self._home[shard] = host
        self._hosts = hosts
        self._away = {host for host in self._away if host < hosts}
        return self._settle()

    def _settle(self) -> Moves:
        """Place each shard at home, else where it is, else at the host with the fewest."""
        there = [host for host in range(self._hosts) if host not in self._away]
        before, homeless = list(self._host), []
        for shard, home in enumerate(self._home):
            if home in there:
                self._host[shard] = home
            elif there and self._host[shard] not in there:
                homeless.append(shard)
            elif self._host[shard] >= self._hosts:  # no host is there, and this one was removed
                self._host[shard] = home
        load = {host: self.count(host) for host in there}
        for shard in homeless:
            host = min(load, key=load.__getitem__)
            self._host[shard] = host
            load[host] += 1
        moves: Moves = {}
        self.version += 1
        for shard, host in enumerate(self._host):
            if before[shard] != host:
                self._since[shard] = self.version
                moves.setdefault(host, set()).add(shard)
        return moves
