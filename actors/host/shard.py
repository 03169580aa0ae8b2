"""The logical shard of a stream."""

from __future__ import annotations

from zlib import crc32

SHARDS = 256
"""Never changes: a stream always has the same shard; only the shard's host can change."""


def shard_of(stream: str) -> int:
    """Return the stream's logical shard, which is the same on every machine."""
    return crc32(stream.encode()) % SHARDS
