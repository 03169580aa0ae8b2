"""The limits of a host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HostLimits:
    """The limits of a host. Sizes are in events or bytes, times in seconds."""

    max_queued: int = 10_000
    """Commands in all mailboxes; more are refused at once."""
    commit_events: int = 500
    commit_bytes: int = 512 * 1024
    concurrent_commits: int = 2
    """Commits in progress at a time: one is decided while another is written."""
    attempts: int = 5
    """Attempts at a command before the host gives up because another writer keeps winning."""
    concurrent_loads: int = 32
    """Aggregates that are folded from the log at the same time."""
    idle_timeout: float = 300.0
    """Seconds without commands after which an aggregate is evicted from memory."""
    cached_aggregates: int = 200_000
    """Aggregates in memory; above that, the least recently used are evicted."""
    memory_bytes: int = 2 * 1024**3
    """Memory of the process in bytes; while it is above that, each sweep evicts the least recently
    used quarter.
    """
