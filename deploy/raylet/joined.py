"""The raylet through which this process has joined a cluster: detects whether it still runs.

A driver is not told when its raylet ends. It lives on, its actors end, and it can start no others:
every call to Ray waits. So this holds a connection to the raylet, which ends with it.
"""

from __future__ import annotations

import socket

CONNECT = 5.0
"""Seconds within which a raylet on this machine accepts a connection."""


class JoinedRaylet:
    """A raylet, known by its Unix socket; another raylet at the same path is a different one."""

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            OSError: no process listens there.
        """
        self._held = socket.socket(socket.AF_UNIX)
        try:
            self._held.settimeout(CONNECT)
            self._held.connect(path)
        except OSError:
            self._held.close()
            raise
        self._held.setblocking(False)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        try:
            return self._held.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:  # it has sent nothing, and is there
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Close the connection."""
        self._held.close()
