"""Starting the read side's actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import ray

from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle

_numbers = count()


def spawner(actor: type, name: str, namespace: str, *arguments: Any) -> Callable[[], Any]:
    """Return what starts a named actor that comes back when its process dies."""

    def spawn() -> Any:
        return (
            ray.remote(actor)
            .options(
                name=f"rayfold:{name}.{next(_numbers)}",
                namespace=namespace,
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=1000,
            )
            .remote(*arguments)
        )

    return spawn


def postgres_actor(
    actor: type, kind: str, name: str, settings: ReadSettings, views: Sequence[str], *arguments: Any
) -> ActorHandle:
    """Start one that fills Postgres. All such actors begin with the same arguments."""
    where = settings.domain, settings.eventstore, settings.postgres
    spawn = spawner(actor, name, settings.namespace, *where, *arguments)
    return ActorHandle(name, kind, views, spawn)
