"""How much of the gateway an unknown client may occupy: bytes, seconds, connections."""

from __future__ import annotations

import resource
from dataclasses import dataclass

MOST_CONNECTIONS = 10_000


@dataclass(frozen=True)
class Limits:
    """Bounds of one gateway; times in seconds, sizes in bytes."""

    connections: int = MOST_CONNECTIONS
    """At this number the idlest makes room; nobody is idle, and the newcomer gets a 503."""
    streams: int = MOST_CONNECTIONS // 2
    """Connections that may follow a row at a time."""
    token_checked: float = 30.0
    """Between two looks at whether the token counts by which somebody follows a row."""
    head_bytes: int = 32 * 1024
    """Request line and headers."""
    headers: int = 100
    pipelined: int = 50
    """Requests that wait for the answer to one before them, on one connection."""
    body_bytes: int = 1024 * 1024
    public_body_bytes: int = 16 * 1024
    """Of a request that asks for no token: a form in which one is shown."""
    bodies_bytes: int = 128 * 1024 * 1024
    """Of all bodies that have come in part."""
    head_timeout: float = 10.0
    """From a request's first byte, or a connection's begin, to the end of its headers."""
    body_timeout: float = 30.0
    """From there to the end of its body."""
    idle_timeout: float = 30.0
    """Between two requests."""
    write_timeout: float = 30.0
    """For which a client may leave what it is sent unread."""
    linger_timeout: float = 1.0
    """Of silence, after an answer that came before the request's end; then it is closed."""
    linger_bytes: int = 64 * 1024 * 1024
    """Of such a request that are read and dropped, so that its client comes to read the answer."""

    @classmethod
    def of_process(cls) -> Limits:
        """Return limits that leave file descriptors for the log, Postgres and the actors."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files == resource.RLIM_INFINITY:
            return cls()
        connections = max(8, min(MOST_CONNECTIONS, files - max(64, files // 4)))
        return cls(connections=connections, streams=connections // 2)
