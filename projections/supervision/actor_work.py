"""The background work of an actor: begun by its first call, stopped before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from projections.supervision.membership import Membership
from rayfold.runtime.part_process import end_part, process_status

NICENESS = 5
"""The niceness of the process: on a shared machine, this work lags before commands wait."""

STOP = 4.0
"""Seconds for it to end when told to: less than the caller that ends the actor waits."""


class Connection(Protocol):
    """A connection that the work uses."""

    async def close(self) -> None:
        """Close it; it is not used again."""
        ...


class ActorWork:
    """Runs `work`, which never returns, from the first `begin` to `stop`."""

    def __init__(
        self,
        membership: Membership,
        work: Callable[[], Coroutine[Any, Any, None]],
        *connections: Connection,
    ) -> None:
        """Close `connections` in their order, once the work has stopped."""
        self._membership = membership
        self._work = work
        self._connections = connections
        self._working: asyncio.Task[None] | None = None
        self._stopped = False

    def begin(self) -> None:
        """Start the work, unless it runs or is to stop; it waits until its stack is known as ours.

        This is in a call and not in the actor's `__init__`, which Ray runs outside the event loop
        that clients must belong to.
        """
        if self._working is None and not self._stopped:
            self._working = asyncio.create_task(self._run())

    async def process_status(self) -> dict[str, Any]:
        """Return the status of the process for operators, and start the work if needed.

        Raises:
            WrongStack: it is connected to another stack's store.
        """
        await self._membership.check()
        self.begin()
        return process_status()

    async def stop(self) -> None:
        """Let the work roll back, then close its connections."""
        self._stopped = True
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working], timeout=STOP)
        for each in self._connections:
            await each.close()
        await end_part()

    async def _run(self) -> None:
        await self._membership.confirmed()
        await self._work()
