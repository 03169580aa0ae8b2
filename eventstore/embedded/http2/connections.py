"""The open connections: fewer than the process has file descriptors for."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from typing import Protocol

log = logging.getLogger(__name__)

RESERVED = 40
"""Descriptors for the database, the log, the listener, and connections that are just closing."""


class Closable(Protocol):
    """What `Connections` needs of a connection."""

    @property
    def idle(self) -> bool:
        """Whether it has no call, or has not sent the HTTP/2 preface yet."""

    def abort(self) -> None:
        """Close it at once."""

    def say_goodbye(self) -> None:
        """Let its calls end; the peer begins no others."""

    def close(self) -> None:
        """Send what is queued, then close it."""


class Connections:
    """Connections in order of arrival. If there are too many, the oldest idle one is closed; if
    none is idle, the newest."""

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(soft - RESERVED, 8)
        self._open: dict[Closable, None] = {}
        self._said = False

    def __iter__(self) -> Iterator[Closable]:
        return iter(list(self._open))

    def add(self, connection: Closable) -> None:
        """Add a new connection; another may be closed for it."""
        if len(self._open) >= self._most:
            leaving = next((each for each in self._open if each.idle), connection)
            if not self._said:
                self._said = True
                log.warning(
                    "too many connections: idle ones are closed", extra={"most": self._most}
                )
            self._open.pop(leaving, None)
            leaving.abort()
            if leaving is connection:
                return
        self._open[connection] = None

    def discard(self, connection: Closable) -> None:
        """Remove a closed connection."""
        self._open.pop(connection, None)
