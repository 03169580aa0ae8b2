"""Shared by the processes on a cluster: how they start, and how they are told to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeVar

from deploy.errors import StartError
from deploy.stack.display import Display
from deploy.stack.foundation import Foundation, lay
from deploy.stack.listening import check_rpc_ports
from deploy.stack.reaching import check_ray
from deploy.stack.settings import EMBEDDED, Settings
from deploy.stack.starting import Lifetime
from deploy.stack.up import take_signals
from rayfold import RayfoldError, Registry
from rayfold.runtime.together import cancel

log = logging.getLogger(__name__)

T = TypeVar("T")

Role = Callable[[Lifetime], Awaitable[None]]
"""Runs until it is told to stop."""


def check(settings: Settings, command: str) -> None:
    """Check that all servers are given: such a process starts none of its own.

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


async def join(settings: Settings, registry: Registry, life: Lifetime) -> Foundation:
    """Connect to all servers.

    Raises:
        StartError: one of them does not answer.
    """
    display = Display()
    with display.shown():
        return await lay(settings, registry, life, display)


async def until_stopped(role: Role, stop: asyncio.Event) -> int:
    """Run a role until it ends, or SIGINT or SIGTERM ends it; return the exit code.

    Once `stop` is set, a role that serves ends by itself; one that is still starting is cancelled.

    Raises:
        StartError: it cannot start, or it failed.
    """
    take_signals(stop)
    async with AsyncExitStack() as parts:
        running = asyncio.ensure_future(role(Lifetime(parts, stop, partial(take_signals, stop))))
        try:
            await running
        except RayfoldError as error:
            if not stop.is_set():
                raise StartError(*str(error).splitlines()) from error
            log.info("stopped while starting", extra={"error": error})
    return 0


async def unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Return the result of the work; cancel it and return None if `stop` is set before."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not working.done():
            await cancel(working)
    return None if working.cancelled() else working.result()
