"""Heartbeats of a connection: a peer that hangs, or is cut off, does not close it by itself.

TCP tells of a process that died, and within minutes of a host that did. So the calling process
asks for a sign of life every second, on the connection itself: two small frames and one timer a
second for each connection, whatever passes on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

INTERVAL = 1.0
"""Seconds between two heartbeats."""

MISSED = 3
"""Heartbeats without an answer after which a connection counts as dead."""

PULSE = 0.5
"""Seconds between two looks of a process at itself."""

FROZEN = MISSED * INTERVAL - PULSE
"""Seconds without such a look after which it was stopped: its callers have gone elsewhere, or are
about to."""


class Heartbeat:
    """Of the calling end."""

    def __init__(self, send: Callable[[], None], silent: Callable[[], None]) -> None:
        """`send` asks for a sign of life, `silent` is called once when there was none."""
        self._send = send
        self._silent = silent
        self._missed = 0
        self._timer: asyncio.TimerHandle | None = None
        self.heard = True
        """Whether anything has arrived since the last heartbeat: set by the connection."""

    def start(self) -> None:
        """Begin."""
        self._beat()

    def stop(self) -> None:
        """End; nobody is told any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._missed = 0 if self.heard else self._missed + 1
        if self._missed >= MISSED:
            self._silent()
            return
        self.heard = False
        self._send()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._beat)


class Pulse:
    """Of the answering process: tells whether it was stopped for so long that it is given up.

    What lies in its sockets then was sent before; the callers have sent it to somebody else.
    """

    def __init__(self) -> None:
        self._felt_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def stopped(self) -> bool:
        """Whether the process did not run for so long, until this moment."""
        return self._timer is not None and time.monotonic() - self._felt_at > FROZEN

    def start(self) -> None:
        """Begin, unless it did."""
        if self._timer is None:
            self._feel()

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _feel(self) -> None:
        self._felt_at = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(PULSE, self._feel)
