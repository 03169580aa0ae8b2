"""The stack's parts, started in the order in which they need each other, and the gateway."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.errors import StartError
from deploy.stack import folder, listening, publishing, ray_runtime, wanted
from deploy.stack.access import access_of
from deploy.stack.display import Display
from deploy.stack.local_ray import LocalRay
from deploy.stack.nodes import Nodes, cluster_nodes, placing_of
from deploy.stack.operations import Server, StackOperations
from deploy.stack.owning import Owned, own
from deploy.stack.reaching import check_cluster
from deploy.stack.servers import start_eventstore, start_postgres
from deploy.stack.settings import Settings
from deploy.stack.starting import in_thread, keep_going, together
from rayfold import RayfoldError, Registry
from rayfold.runtime.garbage_collection import collect_rarely

if TYPE_CHECKING:
    from actors.process_side import ProcessSide
    from actors.write_side import WriteSide
    from projections.outbound_side import OutboundSide
    from projections.read_side import ReadSide
    from projections.settings import ReadSettings

log = logging.getLogger(__name__)

CATCH_UP_TIMEOUT = 30.0
"""Seconds that the gateway, which serves already, waits for the views before it says `ready`."""

REMINDER = 5.0
"""Seconds after which it says again what it waits for."""


async def run(
    settings: Settings,
    registry: Registry,
    data: Path,
    parts: AsyncExitStack,
    stop: asyncio.Event,
    take_signals: Callable[[], None],
) -> None:
    """Start everything and serve until `stop`; `parts` undoes what was started.

    `take_signals` takes signals back that Ray has taken.

    Raises:
        StartError: a part does not come up.
    """
    display = Display()

    def start_ray() -> None:
        ray_runtime.start(
            settings.ray_address,
            settings.stack,
            lambda: not stop.is_set(),
            data,
            runtime_env=settings.runtime_env,
        )

    async def ray() -> None:
        with display.part("ray"):
            parts.push_async_callback(asyncio.to_thread, ray_runtime.stop)
            await in_thread(start_ray)
            take_signals()
            if settings.ray_address:
                here, nodes = await in_thread(cluster_nodes)
                check_cluster(nodes, here, settings.eventstore, settings.postgres)

    with display.shown():
        (eventstore, store), (postgres, database), _ = await together(
            start_eventstore(settings, registry.prefixes, data, parts, display),
            start_postgres(settings, data, parts, display),
            ray(),
        )
        placing = placing_of(settings)
        folder.keep_private(data)  # Postgres' wheel opens it for its own user
        try:
            with display.part("stack"):
                owned = await own(settings, registry, eventstore, postgres, data, parts, stop.set)
            writes, reads = await together(
                _write_side(settings, owned, registry, eventstore, placing, parts, display),
                _read_side(
                    settings, owned, registry, eventstore, postgres, placing, parts, display
                ),
            )
            processes = await _processes(
                settings, owned, registry, eventstore, postgres, placing, writes, parts
            )
            read_settings = _read_settings(settings, owned, eventstore, postgres, placing)
            outbound = await _outbound_side(settings, registry, read_settings, parts)
        except RayfoldError as error:
            raise StartError(str(error)) from error
    servers: list[Server] = [store, database]
    local = LocalRay(data, start_ray)
    servers.append(local)
    keep_going(local.watch([writes, reads, processes, outbound], take_signals), parts)
    await _serve(
        settings,
        registry,
        data,
        writes,
        reads,
        processes,
        outbound,
        StackOperations(
            writes, reads, processes, outbound, servers, partial(wanted.note, postgres)
        ),
        stop,
    )


async def _write_side(
    settings: Settings,
    owned: Owned,
    registry: Registry,
    eventstore: str,
    placing: Nodes,
    parts: AsyncExitStack,
    display: Display,
) -> WriteSide:
    # Imported here, since it pulls in Ray, which reads its environment on import.
    from actors.write_side import WriteSettings, WriteSide

    with display.part("write side"):
        side = await WriteSide.start(
            registry,
            WriteSettings(
                settings.domain,
                eventstore,
                hosts=owned.wanted.get("write", settings.write_hosts),
                namespace=settings.stack,
                stack_id=owned.stack_id,
                dedicated=settings.dedicated_actors,
                placing=placing,
            ),
        )
        parts.push_async_callback(side.stop)
        return side


async def _read_side(
    settings: Settings,
    owned: Owned,
    registry: Registry,
    eventstore: str,
    postgres: str,
    placing: Nodes,
    parts: AsyncExitStack,
    display: Display,
) -> ReadSide:
    from projections.read_side import ReadSide

    with display.part("read side"):
        side = await ReadSide.start(
            registry, _read_settings(settings, owned, eventstore, postgres, placing)
        )
        parts.push_async_callback(side.stop)
        return side


def _read_settings(
    settings: Settings, owned: Owned, eventstore: str, postgres: str, placing: Nodes
) -> ReadSettings:
    from projections.settings import ReadSettings

    return ReadSettings(
        settings.domain,
        eventstore,
        postgres,
        memory_replicas=settings.memory_replicas,
        postgres_reads=settings.postgres_reads,
        postgres_partitions=settings.postgres_partitions,
        autoscale=settings.autoscale,
        wanted=owned.wanted,
        namespace=settings.stack,
        stack_id=owned.stack_id,
        placing=placing,
    )


async def _outbound_side(
    settings: Settings,
    registry: Registry,
    read_settings: ReadSettings,
    parts: AsyncExitStack,
) -> OutboundSide:
    from projections.outbound_side import OutboundSide

    side = OutboundSide(registry, read_settings, publishing.configured(settings))
    parts.push_async_callback(side.stop)  # after a failed start too
    await side.start()
    return side


async def _processes(
    settings: Settings,
    owned: Owned,
    registry: Registry,
    eventstore: str,
    postgres: str,
    placing: Nodes,
    writes: WriteSide,
    parts: AsyncExitStack,
) -> ProcessSide:
    from actors.process_side import ProcessSide
    from actors.processes.settings import ProcessSettings

    side = ProcessSide(
        registry,
        ProcessSettings(
            settings.domain,
            eventstore,
            postgres,
            namespace=settings.stack,
            stack_id=owned.stack_id,
            wanted=owned.wanted,
            placing=placing,
        ),
        writes.bus,
    )
    parts.push_async_callback(side.stop)  # before the write side
    await side.start()
    return side


async def _serve(
    settings: Settings,
    registry: Registry,
    data: Path,
    writes: WriteSide,
    reads: ReadSide,
    processes: ProcessSide,
    outbound: OutboundSide,
    operations: StackOperations,
    stop: asyncio.Event,
) -> None:
    from api.app import create_app
    from api.http.server import serve

    app = create_app(
        registry,
        writes.bus,
        reads.bus,
        reads.history,
        operations,
        processes=processes,
        schedules=processes.schedules_of_gateway,
        publications=outbound.publications,
        audit=reads.audit,
        outcomes=writes,
        **access_of(settings),
    )
    url = listening.url(settings.host, settings.port)
    async with AsyncExitStack() as waiting:

        def serving() -> None:
            folder.announce(data, listening.local_url(settings.host, settings.port))
            keep_going(_say_ready(reads, url), waiting)

        try:
            await serve(app, settings.host, settings.port, stop=stop, on_ready=serving)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise StartError(f"{where} cannot be bound: {error}") from error


async def _say_ready(reads: ReadSide, url: str) -> None:
    """Say that it is ready once the views are, or that it serves without some of them."""
    reminding = asyncio.create_task(_remind(reads))
    try:
        await reads.monitor.caught_up(CATCH_UP_TIMEOUT)
    except RayfoldError as error:
        log.warning("serving without all views", extra={"reason": error, "behind": _behind(reads)})
    finally:
        reminding.cancel()
    collect_rarely()
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()


async def _remind(reads: ReadSide) -> None:
    seconds = 0.0
    while True:
        await asyncio.sleep(REMINDER)
        seconds += REMINDER
        log.warning("waiting for views", extra={"behind": _behind(reads), "seconds": seconds})


def _behind(reads: ReadSide) -> str:
    return ", ".join(each["part"] for each in reads.monitor.status() if not each["ready"])
