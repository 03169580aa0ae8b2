"""What the processes on a cluster have in common: how they begin, and how they are told to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple, TypeVar

from deploy.errors import StartError
from deploy.stack import ray_runtime
from deploy.stack.display import Display
from deploy.stack.listening import check_rpc_ports
from deploy.stack.local_ray import LocalRay
from deploy.stack.nodes import cluster_nodes
from deploy.stack.operations import Server
from deploy.stack.reaching import check_cluster, check_ray
from deploy.stack.redis_server import start_redis
from deploy.stack.servers import start_eventstore, start_postgres
from deploy.stack.settings import EMBEDDED, Settings
from deploy.stack.up import take_signals
from rayfold import RayfoldError, Registry
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import ended, together

log = logging.getLogger(__name__)

T = TypeVar("T")

Role = Callable[[AsyncExitStack, Callable[[], None]], Awaitable[None]]
"""Runs until it is told to stop; what it starts ends with the exits. The second argument takes
signals back that Ray has taken."""


class Cluster(NamedTuple):
    """What a process on a cluster has joined."""

    registry: Registry
    eventstore: str
    postgres: str
    redis: str
    servers: list[Server]
    ray: LocalRay


def check(settings: Settings, command: str) -> None:
    """Check that everything is given: such a process starts no server of its own.

    Raises:
        StartError: something is missing or wrong, or Ray does not answer.
    """
    for name in ("ray_address", "eventstore", "postgres"):
        if getattr(settings, name) is None:
            option = f"--{name.replace('_', '-')}"
            raise StartError(f"rayfold {command} needs {option}: it starts no server of its own")
    if settings.redis == EMBEDDED:
        raise StartError(f"rayfold {command} starts no server of its own: give --redis a URL")
    check_rpc_ports()
    assert settings.ray_address is not None
    check_ray(settings.ray_address)


async def join(
    settings: Settings,
    registry: Registry,
    parts: AsyncExitStack,
    stop: asyncio.Event,
    retake_signals: Callable[[], None],
) -> Cluster:
    """Connect to everything.

    Raises:
        StartError: something does not answer.
    """
    display = Display()

    def start_ray() -> None:
        ray_runtime.start(
            settings.ray_address,
            settings.stack,
            lambda: not stop.is_set(),
            runtime_env=settings.runtime_env,
        )

    async def ray() -> None:
        with display.part("ray"):
            parts.push_async_callback(asyncio.to_thread, ray_runtime.stop)
            await in_thread(start_ray)
            retake_signals()
            here, nodes = await in_thread(cluster_nodes)
            check_cluster(nodes, here, settings.eventstore, settings.postgres, settings.redis)

    with display.shown():
        (eventstore, store), (postgres, database), redis, _ = await together(
            start_eventstore(settings, registry.prefixes, settings.data, parts, display),
            start_postgres(settings, settings.data, parts, display),
            start_redis(settings, registry, settings.data, parts, display),
            ray(),
        )
    local = LocalRay(None, start_ray)
    servers: list[Server] = [store, database, *redis.probes, local]
    return Cluster(registry, eventstore, postgres, redis.url, servers, local)


async def until_stopped(role: Role, stop: asyncio.Event) -> int:
    """Run a role until it ends, or SIGINT or SIGTERM ends it; return the exit code.

    Once `stop` is set, a role that serves ends by itself; one that still starts is broken off.

    Raises:
        StartError: it cannot start, or it broke.
    """
    take_signals(stop)
    async with AsyncExitStack() as parts:
        running = asyncio.ensure_future(role(parts, lambda: take_signals(stop)))
        try:
            await running
        except RayfoldError as error:
            if not stop.is_set():
                raise StartError(*str(error).splitlines()) from error
            log.info("stopped while starting", extra={"error": error})
    return 0


async def unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Return what the work gives; break it off and return None when `stop` is set before."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            await ended([working])
    return None if working.cancelled() else working.result()
