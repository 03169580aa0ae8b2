"""The stack's parts, started in the order in which they need each other, and the gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from deploy.errors import StartError
from deploy.stack import folder, listening, ray_runtime
from deploy.stack.display import Display
from deploy.stack.governing import Government
from deploy.stack.http_front import import_app, serve_http
from deploy.stack.local_ray import LocalRay
from deploy.stack.nodes import cluster_nodes, placing_of
from deploy.stack.operations import Server
from deploy.stack.owning import Owner, own
from deploy.stack.reaching import check_cluster
from deploy.stack.redis_server import start_redis
from deploy.stack.servers import start_eventstore, start_postgres
from deploy.stack.settings import Settings
from deploy.stack.starting import keep_going
from rayfold import RayfoldError, Registry
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import together


async def run(
    settings: Settings,
    registry: Registry,
    data: Path,
    parts: AsyncExitStack,
    bound: socket.socket,
    stop: asyncio.Event,
    take_signals: Callable[[], None],
    *,
    serves: asyncio.Event,
    lost: Callable[[], None],
) -> None:
    """Start everything and serve on a socket until `stop`; `parts` undoes what was started.

    `take_signals` takes signals back that Ray has taken. `serves` is set once requests are taken;
    `lost` is called once another one owns the stack.

    Raises:
        StartError: a part does not come up.
    """

    def serving() -> None:
        serves.set()
        folder.announce(data, listening.local_url(settings.host, settings.port))

    display = Display()
    start_ray = partial(
        ray_runtime.start,
        settings.ray_address,
        settings.stack,
        lambda: not stop.is_set(),
        data,
        domain=settings.domain,
        runtime_env=settings.runtime_env,
    )
    with display.shown():
        (eventstore, store), (postgres, database), redis, _ = await together(
            start_eventstore(settings, registry.prefixes, data, parts, display),
            start_postgres(settings, data, parts, display),
            start_redis(settings, registry, data, parts, display),
            _start_ray(settings, start_ray, parts, display, take_signals),
        )
        folder.keep_private(data)  # Postgres' wheel opens it for its own user
        try:
            with display.part("stack"):
                owned = await own(
                    settings,
                    registry,
                    eventstore,
                    postgres,
                    Owner.of_folder(data),
                    parts,
                    lost,
                )
            local = LocalRay(data, start_ray)
            servers: list[Server] = [store, database, *redis.probes, local]
            government = Government(
                settings,
                registry,
                owned,
                eventstore,
                postgres,
                redis.url,
                placing_of(settings),
                detached=False,
                stop=stop.set,
            )
            await together(
                government.start(servers, parts, display),
                in_thread(import_app),  # while actors start
            )
        except RayfoldError as error:
            raise StartError(str(error)) from error
    watch = partial(local.watch, government.sides, take_signals)
    keep_going(watch, "watching Ray", parts)
    keep_going(local.answers.watch, "asking Ray's processes", parts)
    keep_going(local.tidy_up, "removing old logs", parts)
    await serve_http(
        settings,
        registry,
        government.writes,
        government.reads,
        government.operations,
        government.processes,
        government.processes.schedules_of_gateway,
        government.outbound.publications,
        government.writes,
        bound,
        stop,
        serving,
    )


async def _start_ray(
    settings: Settings,
    start: Callable[[], None],
    parts: AsyncExitStack,
    display: Display,
    take_signals: Callable[[], None],
) -> None:
    with display.part("ray"):
        parts.push_async_callback(asyncio.to_thread, ray_runtime.stop)
        await in_thread(start)
        take_signals()
        if settings.ray_address:
            here, nodes = await in_thread(cluster_nodes)
            check_cluster(nodes, here, settings.eventstore, settings.postgres, settings.redis)
