"""All reactors of a domain: their groups and consumers, and operations on them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.personal.opening import open_log
from projections.errors import UnknownTarget
from projections.operations.scaling import MOST
from projections.parked_pages import EVERYTHING, Asked
from projections.postgres.connections import connected
from projections.postgres.generations import lock_migrations
from projections.reactors.attempts import TABLES
from projections.reactors.reactor_actor import ReactorActor
from projections.reactors.reactor_runner import message_timeout
from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle
from projections.supervision.spawning import Spawner
from projections.supervision.watched_actors import WatchedActors, digest_of
from rayfold import ReactorDefinition, Registry
from rayfold.keys import printable


class ReactorHandle(ActorHandle):
    """A consumer of a reactor, as its side sees it."""

    async def discard(self, key: str) -> None:
        """See `ReactorRunner.discard`.

        Raises:
            UnknownTarget: nothing is parked under that key.
            ActorUnavailable: it does not answer.
        """
        await self._call("discard", key)


class ReactorSide:
    """Keeps the wanted number of consumers of each reactor."""

    def __init__(self, registry: Registry, settings: ReadSettings) -> None:
        self._registry = registry
        self._settings = settings
        self._log = open_log(settings.eventstore, registry, settings.postgres)
        self._groups = PersistentSubscriptions(settings.eventstore)
        self._actors = WatchedActors("reactor", settings, self._log, registry.prefixes)
        self._group_of: dict[str, tuple[str, int]] = {}
        """By reactor: its group, and the position after which that begins."""
        self._numbers = {name: count() for name in registry.reactors}
        self._scaling = asyncio.Lock()

    async def start(self) -> None:
        """Create tables, groups and consumers.

        Raises:
            PostgresUnavailable, StoreUnavailable: a store does not answer.
            ActorUnavailable: a consumer does not start.
        """
        if self._registry.reactors:
            async with (
                connected(self._settings.postgres) as connection,
                connection.transaction(),
            ):
                await lock_migrations(connection)
                await connection.execute(TABLES)
            for definition in self._registry.reactors.values():
                self._group_of[definition.name] = await self._prepare(definition)
        await self._actors.start(
            [
                self._handle(name)
                for name in self._registry.reactors
                for _ in range(self._settings.wanted.get(f"reactor:{name}", 1))
            ]
        )

    async def _prepare(self, definition: ReactorDefinition) -> tuple[str, int]:
        """Return the reactor's group and where it begins; create the group if it is missing.

        A group's filter cannot be changed: for other events there is another group, which begins
        where the previous one was.
        """
        types = self._registry.stored_as(definition.handlers)
        digest = hashlib.blake2b("\n".join(types).encode(), digest_size=4).hexdigest()
        group = f"rayfold-reactor-{definition.name}-{digest}"
        async with connected(self._settings.postgres) as connection:
            known = await connection.fetchrow(
                'SELECT "group", began FROM rayfold_reactor WHERE reactor = $1', definition.name
            )
            before: str | None = known["group"] if known else None
            if known:
                began = known["began"]
                if known["group"] != group and await self._groups.exists(known["group"]):
                    began = max(began, await self._groups.position(known["group"]))
            elif await self._groups.exists(group):  # it is another database by now
                began = await self._groups.position(group)
            elif definition.from_beginning:
                began = 0
            else:
                began = await self._log.end_position(self._registry.prefixes)
            await self._groups.create_by_types(group, types, began, message_timeout(definition))
            await connection.execute(
                "INSERT INTO rayfold_reactor VALUES ($1, $2, $3) ON CONFLICT (reactor)"
                ' DO UPDATE SET "group" = excluded."group", began = excluded.began',
                definition.name,
                group,
                began,
            )
            if before is not None and before != group:
                await self._groups.delete(before)
        return group, began

    def _handle(self, name: str) -> ReactorHandle:
        settings = self._settings
        number = next(self._numbers[name])
        part, made_of = f"reactor:{name}#{number}", self._registry.reactors[name].fingerprint
        where = settings.domain, settings.eventstore, settings.postgres, settings.identity
        spawn = Spawner(
            ReactorActor,
            "postgres",
            f"reactor:{name}:{digest_of(made_of)}#{number}",
            settings,
            *where,
            name,
            *self._group_of[name],
        )
        return ReactorHandle(part, "reactor", [name], spawn, spawn.place)

    async def scale(self, name: str, number: int) -> None:
        """Set the number of consumers of a reactor.

        Raises:
            UnknownTarget: no reactor has that name, or the number is not possible.
            ActorUnavailable: a new one does not start; the old ones stay.
        """
        if name not in self._registry.reactors:
            raise UnknownTarget(f"no reactor is named {name!r}")
        if not 1 <= number <= MOST:
            raise UnknownTarget(f"reactor:{name} goes from 1 to {MOST}, not {number}")
        async with self._scaling:
            present = self._handles(name)
            await self._actors.add([self._handle(name) for _ in range(number - len(present))])
            await self._actors.remove(present[number:])

    async def lose(self) -> None:
        """See `WatchedActors.lose`."""
        await self._actors.lose()

    async def heal(self) -> None:
        """See `WatchedActors.heal`."""
        await self._actors.heal()

    async def stop(self) -> None:
        """See `WatchedActors.stop`."""
        async with AsyncExitStack() as closing:  # in reverse order, even if one of them raises
            closing.push_async_callback(self._log.close)
            closing.push_async_callback(self._groups.close)
            await self._actors.stop()

    async def end(self) -> None:
        """See `WatchedActors.end`."""
        await self._actors.end()

    def status(self) -> list[dict[str, Any]]:
        """Return the status of every consumer, as parts of the stack."""
        return self._actors.status()

    def has(self, name: str) -> bool:
        """Return whether a reactor has that name."""
        return name in self._registry.reactors

    async def parked(self, asked: Asked = EVERYTHING) -> list[dict[str, Any]]:
        """Return the parked events of all reactors: see `Asked.of`.

        Raises:
            ActorUnavailable: a consumer does not answer.
        """
        found = [
            {"store": "reactor", **each._asdict()}
            for name in self._registry.reactors
            if asked.view in ("", name)
            for each in await self._first(name).parked(asked)
        ]
        return asked.page(found)

    async def replay(self, name: str, key: str) -> list[dict[str, Any]]:
        """Try a parked event again, or all if `key` is empty; return those that are still parked.

        Raises:
            UnknownTarget: nothing is parked there.
            ActorUnavailable: the consumer does not answer.
        """
        handle = self._first(name)
        found = await self._found(name, key)
        return [{**each, "parked": not await handle.replay(name, each["key"])} for each in found]

    async def discard(self, name: str, key: str) -> list[dict[str, Any]]:
        """Discard a parked event.

        Raises:
            UnknownTarget: nothing is parked there.
            ActorUnavailable: the consumer does not answer.
        """
        found = await self._found(name, key) if key else []
        if not found:
            raise UnknownTarget(f"nothing is parked in {name!r} under {key!r}")
        for each in found:
            await self._first(name).discard(each["key"])
        return [{**each, "parked": False} for each in found]

    async def _found(self, name: str, key: str) -> list[dict[str, Any]]:
        found = [
            each
            for each in await self.parked(Asked(name, key))
            if key in ("", each["key"], printable(each["key"]))
        ]
        if not found:
            under = f" under {key!r}" if key else ""
            raise UnknownTarget(f"nothing is parked in {name!r}{under}")
        return found

    def _handles(self, name: str) -> Sequence[ReactorHandle]:
        handles = [each for each in self._actors.handles if isinstance(each, ReactorHandle)]
        return [each for each in handles if each.views == [name]]

    def _first(self, name: str) -> ReactorHandle:
        handles = self._handles(name)
        return next((each for each in handles if each.ready), handles[0])
