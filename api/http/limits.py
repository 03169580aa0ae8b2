"""Limits on what an unknown client may use of the gateway: bytes, seconds, connections."""

from __future__ import annotations

import resource
from dataclasses import dataclass

MOST_CONNECTIONS = 10_000


@dataclass(frozen=True)
class Limits:
    """Bounds of one gateway; times in seconds, sizes in bytes."""

    connections: int = MOST_CONNECTIONS
    """At this number, the idlest is closed for a new one; if none is idle, the new one gets 503."""
    streams: int = MOST_CONNECTIONS // 2
    """Connections that may follow a row at a time."""
    token_checked: float = 30.0
    """Seconds between two checks that the token of a live stream is still valid."""
    head_bytes: int = 32 * 1024
    """Size of the request line and headers."""
    headers: int = 100
    pipelined: int = 50
    """Requests that wait, on one connection, for the answer to an earlier one."""
    body_bytes: int = 1024 * 1024
    public_body_bytes: int = 16 * 1024
    """Size of a body on a route that needs no token, such as the sign-in form."""
    bodies_bytes: int = 128 * 1024 * 1024
    """Size of all partly received bodies together."""
    head_timeout: float = 10.0
    """From the start of a connection, or a request's first byte, to the end of its headers."""
    body_timeout: float = 30.0
    """From the end of the headers to the end of the body."""
    idle_timeout: float = 30.0
    """Between two requests."""
    write_timeout: float = 30.0
    """How long a client may leave sent data unread."""
    linger_timeout: float = 1.0
    """Silence after an answer that was sent before the request's end; then it is closed."""
    linger_bytes: int = 64 * 1024 * 1024
    """Bytes of such a request that are read and dropped, so that its client reads the answer."""

    @classmethod
    def of_process(cls) -> Limits:
        """Return limits that leave enough file descriptors for the log, Postgres and the actors."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files == resource.RLIM_INFINITY:
            return cls()
        connections = max(8, min(MOST_CONNECTIONS, files - max(64, files // 4)))
        return cls(connections=connections, streams=connections // 2)
