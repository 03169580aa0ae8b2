"""Starting the read side's actors, and finding those that another process has started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import ray
from ray.exceptions import RayError

from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle
from rayfold.runtime.named_actor import find_or_make
from rayfold.runtime.placing import Placed
from rayfold.stores import known_stores

log = logging.getLogger(__name__)

KINDS = ("memory", *(each for each in known_stores() if each != "memory"), "competing", "sql")
"""The prefixes of actor names of the read side. Builders are not detached."""

IN_POSTGRES = ("postgres", "competing", "sql")
"""Kinds of actors that fill Postgres. All that fill a store have the same claims as these."""

_numbers = count()


class Spawner:
    """Starts a named actor, which Ray restarts when its process dies, and again if it is lost.

    A detached one outlives this process: the stack's next owner finds it by its name. Otherwise it
    has a new name for each start, as the last name may resolve to a dying actor.
    """

    def __init__(
        self,
        actor: type,
        kind: str,
        name: str,
        settings: ReadSettings,
        *arguments: Any,
        detached: bool = True,
    ) -> None:
        """`kind` determines its claims. Memory replicas, and actors `NAME#…`, are kept apart.

        `detached` applies only if the settings say so too.
        """
        self._actor = actor
        self._namespace = settings.namespace
        self._arguments = arguments
        self._detached = detached and settings.detached
        self._name = f"{_prefix(settings)}{name}"
        if self._detached:
            self._name += f"@{settings.made_with}"
        self.ray_name = self._name
        apart = kind if kind == "memory" else name.partition("#")[0]
        self.place = Placed(settings.placing, name, kind, apart)

    def __call__(self) -> Any:
        """Start the actor; return its handle."""
        if not self._detached:
            self.ray_name = f"{self._name}.{next(_numbers)}"
        return find_or_make(
            self._actor,
            self.ray_name,
            self._namespace,
            self.place,
            *self._arguments,
            detached=self._detached,
        )


class Finder:
    """Finds an actor that another process has started."""

    def __init__(self, ray_name: str, namespace: str) -> None:
        self.ray_name = ray_name
        self._namespace = namespace

    def __call__(self) -> Any:
        """Return the actor's handle; raise `ValueError` if there is no actor of that name."""
        return ray.get_actor(self.ray_name, self._namespace)


def projector_actor(
    actor: type,
    kind: str,
    name: str,
    settings: ReadSettings,
    views: Sequence[str],
    *arguments: Any,
    detached: bool = True,
) -> ActorHandle:
    """Start an actor that fills a store. All such actors begin with the same arguments.

    Those that fill Postgres get its DSN, and check that it is the stack's; all get the DSN of the
    keys of personal data.
    """
    postgres = settings.postgres if kind in IN_POSTGRES else None
    where = settings.domain, settings.eventstore, postgres, settings.identity, settings.postgres
    spawn = Spawner(actor, "postgres", name, settings, *where, *arguments, detached=detached)
    return ActorHandle(name, kind, views, spawn, spawn.place)


async def end_leftovers(
    settings: ReadSettings, wanted: Iterable[ActorHandle], kinds: Sequence[str] = KINDS
) -> list[str]:
    """End the stack's actors of these kinds that are not wanted; return their names.

    A previous owner has started them, for another release or target, and did not get to end them.
    """
    known = [each.ray_name for each in wanted]
    left = await asyncio.to_thread(leftovers, settings, known, kinds)
    for name in left:
        log.warning("an actor that is no longer wanted is ended", extra={"actor": name})
        with suppress(RayError, ValueError):  # it is gone
            await asyncio.to_thread(_end, name, settings.namespace)
    return left


def leftovers(
    settings: ReadSettings, wanted: Iterable[str], kinds: Sequence[str] = KINDS
) -> list[str]:
    """Return the names of the stack's actors of these kinds that are not wanted; blocks."""
    known = set(wanted)
    ours = tuple(f"{_prefix(settings)}{kind}:" for kind in kinds)
    return [
        each["name"]
        for each in ray.util.list_named_actors(all_namespaces=True)
        if each["namespace"] == settings.namespace
        and each["name"].startswith(ours)
        and each["name"] not in known
    ]


def _end(name: str, namespace: str) -> None:
    ray.kill(ray.get_actor(name, namespace))


def _prefix(settings: ReadSettings) -> str:
    return f"rayfold:{settings.identity.stack}:"
