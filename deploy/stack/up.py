"""`rayfold up`: from locking the data folder until everything has ended."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from deploy.errors import StartError
from deploy.stack import descendants, folder, listening, publishing
from deploy.stack.own_disk import check_room
from deploy.stack.reaching import check_ray
from deploy.stack.serving import run
from deploy.stack.settings import Settings
from deploy.stack.starting import Lifetime
from deploy.stack.unused import unused
from rayfold import DomainError, Registry
from rayfold.runtime.ending_signals import ending_signals
from rayfold.runtime.middleware_layers import DomainMiddleware

log = logging.getLogger(__name__)


async def up(settings: Settings) -> int:
    """Run the stack until it is told to end; return the exit code.

    Raises:
        StartError: it cannot start, or another process owns the stack by now; nothing is left
            running.
    """
    stop, serves, lost = asyncio.Event(), asyncio.Event(), asyncio.Event()
    take_signals(stop)
    os.umask(0o077)  # events, rows and tokens are private to their owner
    registry = load_registry(settings)
    publishing.check(settings, registry)
    listening.check_rpc_ports()
    with folder.locked(settings.data) as data:
        check_room(data)
        bound = listening.bound(settings.host, settings.port, open_to_all=settings.is_open)
        if settings.ray_address:
            check_ray(settings.ray_address)
        _end_leftovers(data, "a process of an earlier stack was left and is ended")
        descendants.mark_descendants(data)
        try:
            code = await _until_stopped(settings, registry, data, bound, stop, serves, lost)
        except Exception:
            if not stop.is_set() or serves.is_set():
                raise
            # Told to stop while starting: partly started parts may fail as they end.
            log.warning("stopped while starting", exc_info=True)
            code = 130
        finally:
            _end_leftovers(data, "a process did not end in order and is killed")
    if lost.is_set():  # it was not told to end: its supervisor must learn of it
        raise StartError(
            f"another process has taken over the stack {settings.stack!r}, so this one has ended:"
            " two stacks of one name cannot share a database"
        )
    return code


async def _until_stopped(
    settings: Settings,
    registry: Registry,
    data: Path,
    bound: socket.socket,
    stop: asyncio.Event,
    serves: asyncio.Event,
    lost: asyncio.Event,
) -> int:
    def lose() -> None:
        lost.set()
        stop.set()

    async with AsyncExitStack() as parts:
        parts.enter_context(bound)  # also if no server comes to listen on it
        life = Lifetime(parts, stop, partial(take_signals, stop))
        running = asyncio.create_task(
            run(settings, registry, data, life, bound, serves=serves, lost=lose)
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        # Once it serves, it ends by itself; while it starts, it is cancelled.
        if not running.done() and not serves.is_set():
            running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            return 130
        except Exception as error:
            if not stop.is_set():
                raise
            # Told to stop while starting: the error of the cancelled start does not matter.
            log.info("stopped while starting", extra={"error": error})
            return 130
    return 0


def take_signals(stop: asyncio.Event) -> None:
    """Make signals set the event; call it again when Ray has replaced the handlers."""
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        loop.add_signal_handler(number, stop.set)


def _end_leftovers(data: Path, message: str) -> None:
    for pid in descendants.end(descendants.descendants(data)):
        log.warning(message, extra={"pid": pid})


def load_registry(settings: Settings) -> Registry:
    """Return the domain; warn of settings that it does not use.

    Raises:
        StartError: it cannot be loaded; each error is a line.
    """
    try:
        registry = Registry.load(settings.domain, tenants=settings.tenants)
        DomainMiddleware(registry)  # reported here, and not once parts are running
    except DomainError as error:
        raise StartError(*error.mistakes) from error
    for sentence in unused(settings, registry):
        log.warning("nothing uses it: %s", sentence)
    return registry
