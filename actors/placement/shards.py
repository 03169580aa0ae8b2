"""Which host serves which aggregates: a table of logical shards."""

from __future__ import annotations

from zlib import crc32

SHARDS = 256
"""Fixed for good: a stream's shard never changes, only the shard's host."""


def shard_of(stream: str) -> int:
    """Return the stream's logical shard: the same on every machine."""
    return crc32(stream.encode()) % SHARDS


class ShardTable:
    """Shards to hosts. Being wrong costs a conflict and a fold, never an event."""

    def __init__(self, hosts: int) -> None:
        self._host = [shard % hosts for shard in range(SHARDS)]

    def host_of(self, stream: str) -> int:
        """Return the number of the host that serves the stream."""
        return self._host[shard_of(stream)]

    def spread(self, hosts: int) -> int:
        """Map the shards evenly to hosts 0 to `hosts` - 1; return how many had to move.

        No more move than must: a host keeps its own up to its fair share.
        """
        share, rest = divmod(SHARDS, hosts)
        room = [share + (host < rest) for host in range(hosts)]
        displaced = []
        for shard, host in enumerate(self._host):
            if host < hosts and room[host]:
                room[host] -= 1
            else:
                displaced.append(shard)
        free = (host for host in range(hosts) for _ in range(room[host]))
        for shard, host in zip(displaced, free, strict=True):
            self._host[shard] = host
        return len(displaced)
