"""Deadlines of many waits, on one timer.

`asyncio.timeout` makes a timer for each wait and cancels nearly all of them. For commands that are
answered in milliseconds, that took a tenth of the gateway's time. Deadlines of seconds do not need
such precision.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

RESOLUTION = 0.1
"""Seconds by which a wait may end late."""


class Deadlines:
    """`async with asyncio.timeout_at(…)` for many tasks at once: `with deadlines.until(…)`."""

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()
        self._timer: asyncio.TimerHandle | None = None

    def until(self, deadline: float) -> _Wait:
        """Return a context that ends in a `TimeoutError` at that `time.monotonic()`.

        It raises on entering if the deadline has passed already.
        """
        return _Wait(self, deadline)

    def begin(self, wait: _Wait) -> None:
        """Watch the wait from now on."""
        self._waits.add(wait)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RESOLUTION, self._look)

    def end(self, wait: _Wait) -> None:
        """Stop watching the wait."""
        self._waits.discard(wait)

    def _look(self) -> None:
        now = time.monotonic()
        for wait in [each for each in self._waits if each.deadline <= now]:
            self._waits.discard(wait)
            wait.expire()
        self._timer = (
            asyncio.get_running_loop().call_later(RESOLUTION, self._look) if self._waits else None
        )


class _Wait:
    __slots__ = ("_cancelling", "_expired", "_owner", "_task", "deadline")

    def __init__(self, owner: Deadlines, deadline: float) -> None:
        self._owner = owner
        self._expired = False
        self.deadline = deadline

    def __enter__(self) -> None:
        if self.deadline <= time.monotonic():
            raise TimeoutError
        task = asyncio.current_task()
        assert task is not None, "a deadline is a task's"
        self._task = task
        self._cancelling = task.cancelling()
        self._owner.begin(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._owner.end(self)
        if not self._expired:
            return
        # If other code has cancelled the task as well, it stays cancelled.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task's wait."""
        self._expired = True
        self._task.cancel()
