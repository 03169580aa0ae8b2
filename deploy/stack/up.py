"""`rayfold up`: starts what is not given, serves, and takes everything down again."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from deploy.errors import StartError
from deploy.stack import folder, listening, ray_runtime
from deploy.stack.display import Display
from deploy.stack.local_postgres import LocalPostgres
from deploy.stack.operations import StackOperations
from deploy.stack.settings import Settings
from deploy.stack.store_process import StoreProcess
from rayfold import DomainError, RayfoldError, Registry
from rayfold.runtime.garbage_collection import collect_rarely

log = logging.getLogger(__name__)

NAMESPACE = "rayfold"

CATCH_UP = 3600.0
"""Seconds for the views to come to the log's end before the gateway serves."""


async def up(settings: Settings) -> int:
    """Run the stack until SIGINT or SIGTERM; return the exit code.

    Raises:
        StartError: it cannot start; nothing is left running.
    """
    stop = asyncio.Event()
    _listen(stop)
    registry = _registry(settings.domain)
    with folder.locked(settings.data) as data:
        listening.check(settings.host, settings.port, open_to_all=not settings.tokens)
        try:
            return await _until_stopped(settings, registry, data, stop)
        except Exception:
            if not stop.is_set() or stack_serves(data):
                raise
            # Told to stop while it started: what ended half made may not end in order.
            log.warning("stopped while starting", exc_info=True)
            return 130


async def _until_stopped(
    settings: Settings, registry: Registry, data: Path, stop: asyncio.Event
) -> int:
    async with AsyncExitStack() as parts:
        running = asyncio.create_task(_run(settings, registry, data, parts, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        # Once it serves, it ends by itself; while it still starts, it is told to.
        if not running.done() and not stack_serves(data):
            running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            return 130
        except Exception as error:
            if not stop.is_set():
                raise
            # Told to stop while it started: how the start broke off is of no interest.
            log.info("stopped while starting: %r", error)
            return 130
    return 0


def stack_serves(data: Path) -> bool:
    """Whether the gateway of this folder has announced itself."""
    try:
        folder.gateway_of(data)
    except StartError:
        return False
    return True


async def _run(
    settings: Settings,
    registry: Registry,
    data: Path,
    parts: AsyncExitStack,
    stop: asyncio.Event,
) -> None:
    display = Display()
    with display.shown():
        eventstore, postgres, _ = await _together(
            _eventstore(settings, data, parts, display),
            _postgres(settings, data, parts, display),
            _ray(settings, parts, display, stop),
        )
        # Imported here, since they pull in Ray, which reads its environment on import.
        from actors.write_side import WriteSettings, WriteSide
        from projections.read_side import ReadSide
        from projections.settings import ReadSettings

        async def write_side() -> WriteSide:
            with display.part("write side"):
                side = await WriteSide.start(
                    registry,
                    WriteSettings(
                        settings.domain,
                        eventstore,
                        hosts=settings.write_hosts,
                        namespace=NAMESPACE,
                        dedicated=settings.dedicated_actors,
                    ),
                )
                parts.push_async_callback(side.stop)
                return side

        async def read_side() -> ReadSide:
            with display.part("read side"):
                side = await ReadSide.start(
                    registry,
                    ReadSettings(
                        settings.domain,
                        eventstore,
                        postgres,
                        memory_replicas=settings.memory_replicas,
                        postgres_reads=settings.postgres_reads,
                        postgres_partitions=settings.postgres_partitions,
                        autoscale=settings.autoscale,
                        namespace=NAMESPACE,
                    ),
                )
                parts.push_async_callback(side.stop)
                return side

        try:
            writes, reads = await _together(write_side(), read_side())
            with display.part("views"):
                await reads.monitor.caught_up(CATCH_UP)
        except RayfoldError as error:
            raise StartError(str(error)) from error
    from api.app import create_app
    from api.http.auth import Role, Token
    from api.http.server import serve

    app = create_app(
        registry,
        writes.bus,
        reads.bus,
        reads.history,
        StackOperations(writes, reads),
        tokens=[
            Token(name, each.token.get_secret_value(), Role[each.role.upper()])
            for name, each in settings.tokens.items()
        ],
        hosts=settings.hosts,
    )

    def ready() -> None:
        collect_rarely()
        folder.announce(data, listening.local_url(settings.host, settings.port))
        sys.stdout.write(f"ready {listening.url(settings.host, settings.port)}\n")
        sys.stdout.flush()

    try:
        await serve(app, settings.host, settings.port, stop=stop, on_ready=ready)
    except OSError as error:
        raise StartError(f"{settings.host}:{settings.port} cannot be bound: {error}") from error


async def _eventstore(
    settings: Settings, data: Path, parts: AsyncExitStack, display: Display
) -> str:
    from eventstore.errors import StoreError
    from eventstore.kurrentdb.log import EventLog

    with display.part("event store"):
        uri = settings.eventstore
        if uri is None:
            process = StoreProcess(data / "eventstore")
            parts.push_async_callback(process.stop)
            uri = await process.start()
            (data / "eventstore.uri").write_text(uri)
        try:
            event_log = EventLog(uri)
            async with asyncio.timeout(15):
                await event_log.connect()
            await event_log.close()
        except (StoreError, TimeoutError, ValueError) as error:
            raise StartError(
                f"the event store at {uri} does not answer ({type(error).__name__}): "
                "check --eventstore"
            ) from error
        return uri


async def _postgres(settings: Settings, data: Path, parts: AsyncExitStack, display: Display) -> str:
    import asyncpg

    with display.part("postgres"):
        dsn = settings.postgres
        if dsn is None:
            server = LocalPostgres(data / "postgres")
            parts.push_async_callback(asyncio.to_thread, server.stop)
            dsn = await _in_thread(server.start)
        try:
            connection = await asyncpg.connect(dsn, timeout=10)
            await connection.close()
        except (asyncpg.PostgresError, OSError, TimeoutError, ValueError) as error:
            reason = str(error).split("\n")[0] or type(error).__name__
            raise StartError(f"Postgres does not answer: {reason}: check --postgres") from error
        return dsn


async def _ray(
    settings: Settings, parts: AsyncExitStack, display: Display, stop: asyncio.Event
) -> None:
    with display.part("ray"):
        parts.push_async_callback(asyncio.to_thread, ray_runtime.stop)
        await _in_thread(
            lambda: ray_runtime.start(settings.ray_address, NAMESPACE, lambda: not stop.is_set())
        )
        _listen(stop)  # Ray has put a handler of its own in the way


async def _in_thread(start: Callable[[], Any]) -> Any:
    """Run what blocks; if we are cancelled, still wait for it, so that it can be undone."""
    task = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _together(*starting: Awaitable[Any]) -> list[Any]:
    """Run all at once; when one fails or we are cancelled, the others are ended first."""
    tasks = [asyncio.ensure_future(each) for each in starting]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _listen(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


def _registry(domain: str) -> Registry:
    try:
        return Registry.load(domain)
    except DomainError as error:
        raise StartError(str(error)) from error
