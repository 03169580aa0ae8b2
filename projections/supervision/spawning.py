"""Starting the read side's actors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import ray

from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle
from rayfold.runtime.placing import Placed

_numbers = count()


class Spawner:
    """Starts a named actor that comes back when its process dies, and again when it is lost."""

    def __init__(
        self, actor: type, kind: str, name: str, settings: ReadSettings, *arguments: Any
    ) -> None:
        """`kind` is what its claims go by. Memory replicas, and actors `NAME#…`, are kept apart."""
        self._actor = actor
        self._name = name
        self._namespace = settings.namespace
        self._stack = settings.stack_id
        self._arguments = arguments
        apart = kind if kind == "memory" else name.partition("#")[0]
        self.place = Placed(settings.placing, name, kind, apart)

    def __call__(self) -> Any:
        """Start it."""
        return (
            ray.remote(self._actor)
            .options(
                name=f"rayfold:{self._stack}:{self._name}.{next(_numbers)}",
                namespace=self._namespace,
                get_if_exists=True,
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=1000,
                **self.place.options(),
            )
            .remote(*self._arguments)
        )


def postgres_actor(
    actor: type, kind: str, name: str, settings: ReadSettings, views: Sequence[str], *arguments: Any
) -> ActorHandle:
    """Start one that fills Postgres. All such actors begin with the same arguments."""
    where = settings.domain, settings.eventstore, settings.postgres
    spawn = Spawner(actor, "postgres", name, settings, *where, *arguments)
    return ActorHandle(name, kind, views, spawn, spawn.place)
