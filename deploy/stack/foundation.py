"""What a process of a stack depends on: the event store, Postgres, Redis, and Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from deploy.stack import ray_runtime
from deploy.stack.display import Display
from deploy.stack.local_ray import LocalRay, OnRay
from deploy.stack.nodes import cluster_nodes
from deploy.stack.operations import Server
from deploy.stack.reaching import check_cluster
from deploy.stack.redis_server import start_redis
from deploy.stack.servers import start_eventstore, start_postgres
from deploy.stack.settings import Settings
from deploy.stack.starting import Lifetime, keep_going
from rayfold import Registry
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import together


class Foundation(NamedTuple):
    """The addresses of these servers, and the domain."""

    registry: Registry
    eventstore: str
    postgres: str
    redis: str
    servers: list[Server]
    """All servers, for `rayfold status`."""
    ray: LocalRay

    def watch_ray(self, sides: Sequence[OnRay], life: Lifetime) -> None:
        """Restart Ray, and the actors of `sides`, when it has lost a process or hangs.

        This goes on until `life` ends.
        """
        keep_going(partial(self.ray.watch, sides, life.retake_signals), "watching Ray", life.parts)
        keep_going(self.ray.answers.watch, "asking Ray's processes", life.parts)


async def lay(
    settings: Settings,
    registry: Registry,
    life: Lifetime,
    display: Display,
    *,
    data: Path | None = None,
) -> Foundation:
    """Start servers that are not given, in the folder `data`, and connect to the rest, for `life`.

    Without `data`, all must be given: see `deploy.stack.roles.check`.

    Raises:
        StartError: one of them does not start or answer.
    """
    start_ray = partial(
        ray_runtime.start,
        settings.ray_address,
        settings.stack,
        lambda: not life.stop.is_set(),
        data,
        domain=settings.domain,
        runtime_env=settings.runtime_env,
    )

    async def ray() -> None:
        with display.part("ray"):
            life.parts.push_async_callback(asyncio.to_thread, ray_runtime.stop)
            await in_thread(start_ray)
            life.retake_signals()
            if settings.ray_address:
                here, nodes = await in_thread(cluster_nodes)
                check_cluster(nodes, here, settings.eventstore, settings.postgres, settings.redis)

    folder = settings.data if data is None else data
    (eventstore, store), (postgres, database), redis, _ = await together(
        start_eventstore(settings, registry.prefixes, folder, life.parts, display),
        start_postgres(settings, folder, life.parts, display),
        start_redis(settings, registry, folder, life.parts, display),
        ray(),
    )
    local = LocalRay(data, start_ray)
    servers: list[Server] = [store, database, *redis.probes, local]
    return Foundation(registry, eventstore, postgres, redis.url, servers, local)
