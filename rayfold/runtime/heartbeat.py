"""Heartbeats of a connection, which find a process that hangs, is stopped or is cut off.

TCP reports a process that died at once and a host that died within minutes, but not these. So the
calling process asks for a sign of life every second, on the connection itself. That costs two
small frames and one timer each second for a connection, whatever its traffic.
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
"""Seconds between two checks of a process whether it was stopped."""

FROZEN = MISSED * INTERVAL - PULSE
"""Seconds without such a check after which a process assumes that it was stopped: its callers have
called another one, or are about to."""


class Heartbeat:
    """The heartbeat of the calling end."""

    def __init__(self, send: Callable[[], None], silent: Callable[[], None]) -> None:
        """`send` asks for a sign of life; `silent` is called once if there was none."""
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
        """End, without calling `silent` any more."""
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
    """Tells an answering process whether it was stopped for so long that callers gave it up.

    Requests in its sockets are then old, and the callers have sent them to another process.
    """

    def __init__(self) -> None:
        self._felt_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def stopped(self) -> bool:
        """Return whether the process was stopped for that long, until this moment."""
        return self._timer is not None and time.monotonic() - self._felt_at > FROZEN

    def start(self) -> None:
        """Begin, unless it has begun already."""
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
