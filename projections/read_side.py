"""The read side as its owner manages it: its parts, started and stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from projections.competing.supervisor import CompetingSupervisor
from projections.erasure import views_that_keep
from projections.memory.supervisor import MemorySupervisor
from projections.operations.applications import Applications
from projections.operations.parked_events import ParkedEventOperations
from projections.operations.rebuilds import Rebuilder, Rebuilds
from projections.operations.scaling import Scaling
from projections.operations.verification import Verification
from projections.postgres import budget
from projections.read_access import ReadAccess
from projections.settings import ReadSettings
from projections.sql.supervisor import SqlSupervisor
from projections.stores.configured import supervisors
from projections.supervision.spawning import end_leftovers
from rayfold import Registry
from rayfold.runtime.lasting import lasting
from rayfold.runtime.together import all_done, cancel, together

SPREAD = 3.0
"""Seconds between checks whether an actor should move to another node; one moves at a time."""


class ReadSide:
    """Starts the actors, keeps the wanted number of them, and queries them.

    Started by the stack's owner, with Ray running. Gateways of other processes follow its `routes`:
    see `ReadGateway`.
    """

    def __init__(self, registry: Registry, settings: ReadSettings) -> None:
        """Create the parts; nothing is started yet.

        Raises:
            UnknownTarget: `settings.autoscale` names nothing that can be scaled.
        """
        self._registry = registry
        self._settings = settings
        self._access = access = ReadAccess(registry, settings)
        self.placements = placements = access.placements
        self.bus = access.bus
        self.history = access.history
        self.log = access.log
        self.applications = Applications(registry, access.log, placements)
        self.browser = access.browser
        self.monitor = access.monitor
        self.audit = access.audit
        self._memory = MemorySupervisor(registry, settings, placements)
        self._stores = supervisors(registry, settings, placements, access.log)
        self._competing = CompetingSupervisor(registry, settings, placements, access.log)
        self._sql = SqlSupervisor(registry, settings, placements, access.log)
        self.rebuilds = Rebuilds(registry, access.log, settings.stores_of, self._rebuilder)
        self.parked_events = ParkedEventOperations(
            registry,
            access.log,
            placements,
            partial(self.rebuilds.afresh, accept_parked=False),
        )
        self.verification = Verification(
            registry, access.log, placements, access.stores, self.monitor
        )
        self.scaling = Scaling(
            self._memory,
            self._stores,
            self._competing,
            placements,
            self.monitor,
            settings.autoscale,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, registry: Registry, settings: ReadSettings) -> ReadSide:
        """Migrate Postgres, start or adopt the actors, wait until they answer; not until caught up.

        If one of these fails, what was started before is ended again.

        Raises:
            PostgresUnavailable: Postgres does not answer.
            ActorUnavailable: an actor does not start.
            UnknownTarget: a target of the autoscaler does not exist.
        """
        side = cls(registry, settings)
        try:
            await together(side._memory.start(), side._start_postgres(), *side._start_others())
            await side.monitor.look()
            await budget.warn(
                side._access.postgres.primary, side.placements, settings.host_connections
            )
        except BaseException:
            await side.stop()
            raise
        side._begin()
        return side

    def routes(self) -> dict[str, Any]:
        """Return what a `ReadGateway` needs to reach the actors, as plain JSON."""
        return self.placements.routes()

    async def end_leftovers(self) -> list[str]:
        """End actors of the stack's read side that are no longer wanted; return their names."""
        return await end_leftovers(self._settings, self.placements.all)

    async def lose(self) -> None:
        """Stop calling actors: their Ray is gone."""
        await self._end_tasks()
        for handle in self.placements.all:
            handle.lose()

    async def heal(self) -> None:
        """Start every missing actor again, in another Ray."""
        for handle in self.placements.all:
            handle.respawn()
        await self._access.look()
        self._begin()

    def views_that_keep(self, stream: str) -> list[str]:
        """See `projections.erasure.views_that_keep`."""
        return views_that_keep(self._registry, stream)

    async def stop(self) -> None:
        """End subscriptions and close connections; end the actors, unless they are detached."""
        await self._stop(end=not self._settings.detached)

    async def end(self) -> None:
        """Do the same, but end the actors in any case."""
        await self._stop(end=True)

    async def _stop(self, *, end: bool) -> None:
        async with AsyncExitStack() as closing:  # in reverse order, even if one of them raises
            closing.push_async_callback(self._access.close)
            for store in self._stores.values():
                closing.push_async_callback(store.stop)
            closing.push_async_callback(self._competing.stop)
            closing.push_async_callback(self._end_actors if end else self._leave_actors)
            closing.push_async_callback(self.rebuilds.stop)
            closing.push_async_callback(self._end_tasks)

    async def _end_actors(self) -> None:
        await all_done(*(handle.end() for handle in self.placements.all))

    async def _leave_actors(self) -> None:
        for handle in self.placements.all:
            handle.close()

    def _begin(self) -> None:
        self._tasks = [
            asyncio.create_task(lasting(self._access.watch, "looking at the read side")),
            asyncio.create_task(lasting(self.scaling.by_load, "scaling by load")),
            asyncio.create_task(lasting(self._spread, "spreading actors")),
        ]

    async def _end_tasks(self) -> None:
        await cancel(*self._tasks)

    async def _start_postgres(self) -> None:
        # One after the other: each removes what is left of builds, and may start builds itself.
        await self._stores["postgres"].start()
        await self._access.connect()
        await self._competing.start()
        await self._sql.start()

    def _start_others(self) -> list[Coroutine[Any, Any, None]]:
        return [store.start() for name, store in self._stores.items() if name != "postgres"]

    async def _spread(self) -> None:
        """Move actors apart that ended up on one node while another node was away."""
        while True:
            await asyncio.sleep(SPREAD)
            handles = self.placements.all
            if not all(each.ready for each in handles):
                continue  # the remaining actors have to serve
            for handle in handles:
                if await asyncio.to_thread(handle.misplaced):
                    await handle.move()
                    break

    def _rebuilder(self, view: str, store: str) -> Rebuilder:
        if view in self._registry.projections:
            return self._sql.rebuild
        if view in self._competing.wanted:
            return self._competing.rebuild
        return self._memory.rebuild if store == "memory" else self._stores[store].rebuild
