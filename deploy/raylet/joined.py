"""The raylet through which this process has joined a cluster: whether it still runs.

A driver whose raylet has ended is told by nobody. It lives on, its actors end, and it makes no
other: every call to Ray waits. So a connection to the raylet is held, which ends with it.
"""

from __future__ import annotations

import socket

CONNECT = 5.0
"""Seconds in which a raylet on this machine accepts."""


class JoinedRaylet:
    """Known by its Unix socket; another raylet at the same path is another one."""

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            OSError: nobody listens there.
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
        except BlockingIOError:  # it has nothing to say, and is there
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Let go of it."""
        self._held.close()
