"""The stack's parts, started in the order in which they need each other, and the gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.errors import StartError
from deploy.stack import folder, listening
from deploy.stack.display import Display
from deploy.stack.foundation import Foundation, lay
from deploy.stack.governing import Government
from deploy.stack.http_front import import_app, serve_http
from deploy.stack.owning import Owner, own
from deploy.stack.settings import Settings
from deploy.stack.starting import keep_going
from rayfold import RayfoldError, Registry
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import together

if TYPE_CHECKING:
    from api.ports import Ports


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
    with display.shown():
        foundation = await lay(settings, registry, parts, display, stop, take_signals, data=data)
        folder.keep_private(data)  # Postgres' wheel opens it for its own user
        try:
            government = await _govern(settings, foundation, data, parts, display, stop, lost)
        except RayfoldError as error:
            raise StartError(str(error)) from error
    ray = foundation.ray
    keep_going(partial(ray.watch, government.sides, take_signals), "watching Ray", parts)
    keep_going(ray.answers.watch, "asking Ray's processes", parts)
    keep_going(ray.tidy_up, "removing old logs", parts)
    monitor = government.reads.monitor
    await serve_http(settings, registry, _ports(government), monitor, bound, stop, serving)


async def _govern(
    settings: Settings,
    foundation: Foundation,
    data: Path,
    parts: AsyncExitStack,
    display: Display,
    stop: asyncio.Event,
    lost: Callable[[], None],
) -> Government:
    """Own the stack, and start its parts."""
    with display.part("stack"):
        owned = await own(
            settings,
            foundation.registry,
            foundation.eventstore,
            foundation.postgres,
            Owner.of_folder(data),
            parts,
            lost,
        )
    government = Government(settings, foundation, owned, detached=False, stop=stop.set)
    await together(
        government.start(parts, display),
        in_thread(import_app),  # while actors start
    )
    return government


def _ports(government: Government) -> Ports:
    from api.ports import Ports

    writes, reads, processes = government.writes, government.reads, government.processes
    return Ports(
        commands=writes.bus,
        queries=reads.bus,
        histories=reads.history,
        operations=government.operations,
        processes=processes,
        schedules=processes.schedules_of_gateway,
        publications=government.outbound.publications,
        outcomes=writes,
        browser=reads.browser,
        audit=reads.audit,
    )
