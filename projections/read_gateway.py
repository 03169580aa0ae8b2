"""The read side of a gateway: one of many processes that query actors owned by another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from projections.competing.consumer_handle import ConsumerHandle
from projections.memory.replica_handle import ReplicaHandle
from projections.postgres import budget
from projections.read_access import ReadAccess
from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle
from projections.supervision.spawning import Finder
from rayfold import Registry
from rayfold.runtime.lasting import lasting
from rayfold.runtime.together import cancel


class ReadGateway:
    """Follows the routes of the stack's owner; starts, ends and replaces nothing."""

    def __init__(self, registry: Registry, settings: ReadSettings) -> None:
        """Create the parts; nothing is connected before `follow` and `start`."""
        self._settings = settings
        self._access = access = ReadAccess(registry, settings)
        self.placements = access.placements
        self.bus = access.bus
        self.history = access.history
        self.browser = access.browser
        self.monitor = access.monitor
        self.audit = access.audit
        self._watching: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def follow(self, routes: Mapping[str, Any]) -> None:
        """Use the actors that `Placements.routes` names from now on; the caller orders the calls.

        An actor that is no longer named answers pending queries, and gets no new ones.
        """
        present = {each.ray_name: each for each in self.placements.all}
        actors = routes["actors"]
        handles = {
            ray_name: present.pop(ray_name)
            if ray_name in present
            else self._handle(ray_name, **actor)
            for ray_name, actor in actors.items()
        }
        placements: Any = self.placements  # each list has handles of one kind
        placements.replicas = [handles[each] for each in routes["replicas"]]
        placements.projectors = {
            "postgres": _by_view(routes["projectors"], handles),
            **{store: _by_view(each, handles) for store, each in routes.get("stores", {}).items()},
        }
        placements.consumers = _by_view(routes["consumers"], handles)
        placements.sql_projectors = {view: handles[each] for view, each in routes["sql"].items()}
        self._access.look_now()
        for handle in present.values():
            task = asyncio.create_task(handle.leave())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def start(self) -> None:
        """Connect, and find out how far every actor is, now and periodically.

        Raises:
            PostgresUnavailable: Postgres does not answer.
        """
        await self._access.connect()
        await self._access.look()
        await budget.warn(
            self._access.postgres.primary, self.placements, self._settings.host_connections
        )
        self._watching = asyncio.create_task(
            lasting(self._access.watch, "looking at the read side")
        )

    async def lose(self) -> None:
        """Stop calling actors: this process has lost its Ray."""
        await cancel(self._watching)
        for handle in self.placements.all:
            handle.lose()

    async def heal(self) -> None:
        """Find every actor again: this process has joined Ray again."""
        for handle in self.placements.all:
            handle.respawn()
        await self._access.look()
        self._watching = asyncio.create_task(
            lasting(self._access.watch, "looking at the read side")
        )

    async def stop(self) -> None:
        """Leave all actors as they are; close connections."""
        await cancel(self._watching)
        for handle in self.placements.all:
            handle.close()
        await cancel(*self._leaving)
        await self._access.close()

    def _handle(self, ray_name: str, name: str, kind: str, views: list[str]) -> ActorHandle:
        find = Finder(ray_name, self._settings.namespace)
        if kind == "memory":
            return ReplicaHandle(
                name,
                views,
                find,
                owned=False,
                asker=self.placements.process,
                in_flight=self.placements.in_flight,
            )
        made: Callable[..., ActorHandle] = ConsumerHandle if kind == "competing" else ActorHandle
        return made(name, kind, views, find, owned=False)


def _by_view(
    groups: Mapping[str, list[str]], handles: Mapping[str, ActorHandle]
) -> dict[str, list[ActorHandle]]:
    return {view: [handles[each] for each in names] for view, names in groups.items()}
