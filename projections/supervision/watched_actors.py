"""Actors of one kind beside those of the views: watched, and restarted when they are lost."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from eventstore.errors import StoreUnavailable
from eventstore.port import Log
from projections.settings import ReadSettings
from projections.supervision.actor_handle import LOOK, ActorHandle, answering
from projections.supervision.lag import Lag
from projections.supervision.spawning import end_leftovers
from rayfold.runtime.lasting import lasting
from rayfold.runtime.together import all_done, cancel


class WatchedActors:
    """`kind` is the prefix of their names. They serve no requests."""

    def __init__(
        self, kind: str, settings: ReadSettings, log: Log, prefixes: Sequence[str]
    ) -> None:
        """Their lag is measured against the end of streams with these `prefixes`."""
        self.handles: list[ActorHandle] = []
        self._kind = kind
        self._settings = settings
        self._log = log
        self._prefixes = list(prefixes)
        self._lag = Lag()
        self._watching: asyncio.Task[None] | None = None

    async def start(self, handles: Sequence[ActorHandle]) -> None:
        """Wait until they answer, and watch them from then on; end those of previous owners.

        Raises:
            ActorUnavailable: one does not start.
        """
        self.handles = list(handles)
        await answering(handles, adopted=self._settings.detached)
        if self._settings.detached:
            await end_leftovers(self._settings, self.handles, [self._kind])
        self._begin()

    async def add(self, handles: Sequence[ActorHandle]) -> None:
        """Watch more of them once they answer.

        Raises:
            ActorUnavailable: one does not start; all of these are ended.
        """
        await answering(handles)
        self.handles += handles

    async def remove(self, handles: Sequence[ActorHandle]) -> None:
        """End some of them."""
        self.handles = [each for each in self.handles if each not in handles]
        await all_done(*(each.end() for each in handles))

    async def lose(self) -> None:
        """Stop calling actors: their Ray is gone."""
        await self._end_watch()
        for handle in self.handles:
            handle.lose()

    async def heal(self) -> None:
        """Start every missing actor again, in another Ray."""
        for handle in self.handles:
            handle.respawn()
        self._begin()

    async def stop(self) -> None:
        """End them, unless they outlive their owner."""
        detached = self._settings.detached
        try:
            await self._end_watch()
        finally:
            await all_done(*(each.leave() if detached else each.end() for each in self.handles))

    async def end(self) -> None:
        """End them for good."""
        try:
            await self._end_watch()
        finally:
            await all_done(*(handle.end() for handle in self.handles))

    def status(self) -> list[dict[str, Any]]:
        """Return their status as parts of the stack."""
        now = time.monotonic()
        return [
            {
                **each.status(self._lag.end, self._lag.of(each.seen.get("position", 0), now)),
                "serves": False,
            }
            for each in self.handles
        ]

    def _begin(self) -> None:
        if self.handles:
            name = f"looking at actors: {self._kind}"
            self._watching = asyncio.create_task(lasting(self._watch, name))

    async def _end_watch(self) -> None:
        await cancel(self._watching)

    async def _watch(self) -> None:
        while True:
            await asyncio.gather(*(handle.look() for handle in self.handles))
            with suppress(StoreUnavailable):
                if self.handles:
                    end = await self._log.end_position(self._prefixes)
                    self._lag.saw(time.monotonic(), end)
            await asyncio.sleep(LOOK)


def digest_of(*made_of: str) -> str:
    """Return a digest of what an actor was made of, for its name in Ray."""
    return hashlib.blake2b("\n".join(made_of).encode(), digest_size=5).hexdigest()
