"""The number of actors of each view: set by operators, or by load."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from projections.competing.supervisor import CompetingSupervisor
from projections.errors import UnknownTarget
from projections.memory.supervisor import MemorySupervisor
from projections.operations.autoscaler import LAG, QUERIES, Autoscaler
from projections.operations.monitor import Monitor
from projections.stores.supervisor import StoreSupervisor
from projections.supervision.actor_handle import LOOK
from projections.supervision.placements import Placements
from rayfold import RayfoldError

log = logging.getLogger(__name__)

MOST = 64
"""The most actors of a kind for a view."""

REMEMBERED = 20
"""Changes of scale that the status remembers."""


class Scaling:
    """Targets are `memory` and the durable stores, or a view of those: `memory:order-details`."""

    def __init__(
        self,
        memory: MemorySupervisor,
        stores: Mapping[str, StoreSupervisor],
        competing: CompetingSupervisor,
        placements: Placements,
        monitor: Monitor,
        bounds: Mapping[str, tuple[int, int]],
    ) -> None:
        """`bounds` has, by target, the smallest and largest number that the autoscaler may set.

        Raises:
            UnknownTarget: a target of the autoscaler does not exist.
        """
        self._memory = memory
        self._stores = stores
        self._competing = competing
        self._placements = placements
        self._monitor = monitor
        self._scaling = asyncio.Lock()
        self._moves: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        self._autoscalers = {
            target: Autoscaler(QUERIES if target.startswith("memory") else LAG, *each)
            for target, each in bounds.items()
        }
        for target, each in bounds.items():
            for number in each:
                self._views_of(target, number)

    async def scale(self, target: str, number: int, reason: str = "an operator") -> None:
        """Set the number of memory replicas, or of a store's partitions, for all views or one.

        For a view of competing consumers, it is the number of consumers.

        Raises:
            UnknownTarget: there is no such target, or the number is not possible.
            ProjectionError: new actors do not start; the old ones stay.
        """
        kind, views = self._views_of(target, number)
        async with self._scaling:
            before = self._count(target)
            if kind == "memory":
                await self._memory.scale(views, number)
            else:
                competing = [view for view in views if view in self._competing.wanted]
                store = self._stores[kind]
                apart = {*competing, *store.undivided}
                if ordered := [view for view in views if view not in apart]:
                    await store.scale(ordered, number)
                await self._competing.scale(competing, number)
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._moves.appendleft(
            {"target": target, "from": before, "to": number, "reason": reason, "at": now}
        )

    def moves(self) -> list[dict[str, Any]]:
        """Return the last changes of scale with their reasons, newest first."""
        return list(self._moves)

    async def by_load(self) -> None:
        """Apply the autoscalers' decisions, forever."""
        while self._autoscalers:
            await asyncio.sleep(LOOK)
            for target, autoscaler in self._autoscalers.items():
                now, count = time.monotonic(), self._count(target)
                move = autoscaler.look(now, count, self._load(target, count, now))
                if move is None:
                    continue
                try:
                    await self.scale(target, move.parts, f"autoscaler: {move.reason}")
                except RayfoldError as error:
                    log.warning(
                        "the autoscaler could not scale", extra={"target": target, "error": error}
                    )

    def _load(self, target: str, count: int, now: float) -> float:
        kind, views = self._views_of(target, count)
        if kind == "memory":
            said = [each.seen.get("in_flight", {}) for each in self._placements.replicas]
            # Each process reports the same to all replicas; the most informed one has the largest
            # sum.
            load = (max((each.get(view, 0) for each in said), default=0) for view in views)
            return sum(load) / count
        consumers = self._placements.all_consumers if kind == "postgres" else []
        filling = [*self._placements.projectors_of(kind), *consumers]
        return self._monitor.lag_of([each for each in filling if set(each.views) & set(views)], now)

    def _views_of(self, target: str, number: int) -> tuple[str, list[str]]:
        kind, _, view = target.partition(":")
        wanted = self._wanted(kind)
        if wanted is None or (view and view not in wanted):
            raise UnknownTarget(f"nothing to scale is named {target!r}")
        if not 1 <= number <= MOST:
            raise UnknownTarget(f"{target} goes from 1 to {MOST}, not {number}")
        if kind != "memory" and view in self._stores[kind].undivided and number > 1:
            raise UnknownTarget(
                f"{view!r} stops as a whole at an event that breaks it, so it has one partition"
            )
        return kind, [view] if view else list(wanted)

    def _count(self, target: str) -> int:
        kind, _, view = target.partition(":")
        wanted = self._wanted(kind) or {}
        return wanted[view] if view else max(wanted.values(), default=1)

    def _wanted(self, kind: str) -> dict[str, int] | None:
        if kind == "memory":
            return self._memory.wanted
        store = self._stores.get(kind)
        if store is None:
            return None
        return store.wanted | self._competing.wanted if kind == "postgres" else store.wanted
