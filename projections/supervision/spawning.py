"""Starting and ending the read side's actors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import ray
from ray.exceptions import RayError

from projections.errors import ProjectionError
from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle

log = logging.getLogger(__name__)

START = 60.0
"""Seconds for an actor to come up on a busy machine."""

READY = 3600.0
"""Seconds for a new part to come to the log's end."""

_numbers = count()


def spawn(actor: type, name: str, namespace: str, *arguments: Any) -> Any:
    """A named actor that comes back when its process dies."""
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


def keeper(
    actor: type, kind: str, name: str, settings: ReadSettings, views: Sequence[str], *arguments: Any
) -> ActorHandle:
    """A part that keeps views in Postgres. All such actors begin with the same arguments."""
    where = settings.domain, settings.eventstore, settings.postgres
    return ActorHandle(
        name, kind, spawn(actor, name, settings.namespace, *where, *arguments), views
    )


async def answering(parts: Sequence[ActorHandle]) -> None:
    """Returns when all of them answer.

    Raises:
        ProjectionError: one does not come up; all are ended.
    """
    try:
        async with asyncio.timeout(START):
            await asyncio.gather(*(part.actor.status.remote() for part in parts))
    except (TimeoutError, RayError) as error:
        await asyncio.gather(*(end(part) for part in parts))
        raise ProjectionError(f"an actor does not come up: {error!r}") from error


async def ready(part: ActorHandle) -> None:
    """Returns when it can serve.

    Raises:
        ProjectionError: it does not come to the log's end.
    """
    until = time.monotonic() + READY
    while not part.ready:
        if time.monotonic() > until:
            raise ProjectionError(f"{part.name} does not come to the log's end")
        await asyncio.sleep(0.05)
        await part.look()


async def end(part: ActorHandle) -> None:
    """Ends it for good."""
    part.close()
    try:
        async with asyncio.timeout(5):
            await part.actor.stop.remote()
    except (TimeoutError, RayError) as error:
        log.info("%s did not stop by itself: %r", part.name, error)
    ray.kill(part.actor)
