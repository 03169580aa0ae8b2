"""Polls the state of every actor of the read side, and waits for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from eventstore.errors import StoreUnavailable
from eventstore.port import Log
from projections.errors import ActorUnavailable, Behind
from projections.stores.port import ReadStore
from projections.supervision.actor_handle import LOOK, ActorHandle
from projections.supervision.condition import OVER
from projections.supervision.lag import Lag
from projections.supervision.placements import Placements

log = logging.getLogger(__name__)

PAUSE = 0.05
"""Seconds between two checks whether an actor is ready."""

LAGGING = 2.0
"""Seconds behind the log after which queries prefer other replicas."""


class Monitor:
    """Knows every actor's position, and for how long it has been behind."""

    def __init__(
        self,
        placements: Placements,
        stores: Sequence[ReadStore],
        log: Log,
        prefixes: Sequence[str],
    ) -> None:
        self._placements = placements
        self._stores = stores
        self._log = log
        self._prefixes = list(prefixes)
        self._lag = Lag()

    async def look(self) -> None:
        """Check every actor once; the call also starts the work of a restarted actor."""
        handles = self._placements.all
        stores = (store.look() for store in self._stores)
        await asyncio.gather(*(handle.look() for handle in handles), *stores)
        try:
            end = await self._log.end_position(self._prefixes)
        except StoreUnavailable as error:
            log.info("the log's end is not known", extra={"error": error})
        else:
            now = time.monotonic()
            self._lag.saw(now, end)
            for replica in self._placements.replicas:
                replica.lagging = self.lag_of([replica], now) > LAGGING

    def lag_of(self, handles: Sequence[ActorHandle], now: float) -> float:
        """Return for how many seconds the slowest of them has been behind."""
        lags = [self._lag.of(handle.progress.position, now) for handle in handles]
        return max(lags, default=0.0)

    async def caught_up(self, timeout: float) -> None:
        """Wait until every actor has reached the log's end as of this call, or has stopped.

        Raises:
            Behind: an actor has not, after `timeout` seconds.
            ActorUnavailable: an actor has, but is not ready.
            StoreUnavailable: the log's end is unknown.
        """
        deadline = time.monotonic() + timeout
        end = await self._log.end_position(self._prefixes)
        while behind := [handle for handle in self._placements.all if _lags(handle, end)]:
            if time.monotonic() > deadline:
                raise Behind(behind[0].name, behind[0].progress.position, end)
            soon = min(deadline, time.monotonic() + LOOK)
            await asyncio.gather(*(handle.reached(end, soon) for handle in behind))
            await asyncio.gather(*(handle.look() for handle in behind))
        while waiting := [handle for handle in self._placements.all if not handle.ready]:
            if time.monotonic() > deadline:
                first = waiting[0]
                raise ActorUnavailable(f"{first.name} is not ready: {_why(first)}")
            await asyncio.sleep(PAUSE)
            await asyncio.gather(*(handle.look() for handle in self._placements.all))

    def status(self) -> list[dict[str, Any]]:
        """Return every actor's state, position, and lag in positions and in seconds."""
        now, end = time.monotonic(), self._lag.end
        growth = {"log_per_second": round(self._lag.growth(OVER), 1)}
        actors = [
            handle.status(end, self._lag.of(handle.seen.get("position", 0), now)) | growth
            for handle in self._placements.all
        ]
        return [*actors, *(part for store in self._stores for part in store.status(end))]


def _why(handle: ActorHandle) -> str:
    return str(handle.seen.get("error") or "it is not at the log's end yet")


def _lags(handle: ActorHandle, end: int) -> bool:
    """Return whether the actor still has to catch up; a stopped projection needs an operator."""
    stopped = handle.kind == "sql" and "stopped" in handle.seen
    return handle.progress.position < end and not stopped
