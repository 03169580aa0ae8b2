"""The background work of an actor: begun by its first call, stopped before it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from projections.supervision.membership import Membership
from rayfold.runtime.part_process import end_part, process_status

NICENESS = 5
"""On a machine where all parts share the cores, these lag before commands wait."""

STOP = 4.0
"""Seconds for it to end, once it is told to: less than whoever ends the actor waits for that."""


class Connection(Protocol):
    """What the work reaches others by."""

    async def close(self) -> None:
        """End it; nothing is asked of it any more."""
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
        """Begin, if it has not and is not told to stop; it waits until its stack is known as ours.

        With a call and not in the actor's `__init__`: Ray runs that outside of the loop that
        clients must live on.
        """
        if self._working is None and not self._stopped:
            self._working = asyncio.create_task(self._run())

    async def process_status(self) -> dict[str, Any]:
        """Return what operators are told of the process, and begin, if it has not.

        Raises:
            WrongStack: what it reaches is another stack's.
        """
        await self._membership.check()
        self.begin()
        return process_status()

    async def stop(self) -> None:
        """Let the work undo what it was at, then end what it reaches others by."""
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
