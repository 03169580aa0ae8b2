"""The bounds of a host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HostLimits:
    """Bounds of a host. Sizes are in events or bytes, times in seconds."""

    max_queued: int = 10_000
    """Commands in all mailboxes; beyond that they are refused at once."""
    commit_events: int = 500
    commit_bytes: int = 512 * 1024
    concurrent_commits: int = 2
    """On their way to the store at a time: one is decided while one is written."""
    attempts: int = 5
    """How often a command is decided before its host gives up against another writer."""
    concurrent_loads: int = 32
    """Aggregates that are being folded from the log at a time."""
    idle_timeout: float = 300.0
    """Seconds after which an aggregate without commands leaves memory."""
    cached_aggregates: int = 200_000
    """Aggregates in memory; the least recently used leave first."""
    memory_bytes: int = 2 * 1024**3
    """Bytes of the process; above that the least recently used quarter leaves, again and again."""
