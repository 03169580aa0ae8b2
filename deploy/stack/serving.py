"""Starting the stack's parts in the order of their dependencies, and the gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
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
from deploy.stack.starting import Lifetime, keep_going
from rayfold import RayfoldError, Registry
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import together

if TYPE_CHECKING:
    from api.console.sessions import KeptSessions
    from api.ports import Ports


async def run(
    settings: Settings,
    registry: Registry,
    data: Path,
    life: Lifetime,
    bound: socket.socket,
    *,
    serves: asyncio.Event,
    lost: Callable[[], None],
) -> None:
    """Start everything, and serve on a socket until told to end.

    `serves` is set once requests are accepted; `lost` is called once another process owns the
    stack.

    Raises:
        StartError: a part does not start.
    """

    def serving() -> None:
        serves.set()
        folder.announce(data, listening.local_url(settings.host, settings.port))

    display = Display()
    with display.shown():
        foundation = await lay(settings, registry, life, display, data=data)
        folder.keep_private(data)  # Postgres' wheel makes it accessible for its own user
        try:
            government = await _govern(settings, foundation, data, life, display, lost)
        except RayfoldError as error:
            raise StartError(str(error)) from error
    foundation.watch_ray(government.sides, life)
    keep_going(foundation.ray.tidy_up, "removing old logs", life.parts)
    from deploy.stack.console_sessions import PostgresSessions  # imported with the server

    sessions = PostgresSessions(foundation.postgres)
    life.parts.callback(sessions.close)
    ports, monitor = _ports(government, sessions), government.reads.monitor
    await serve_http(settings, registry, ports, monitor, bound, life.stop, serving)


async def _govern(
    settings: Settings,
    foundation: Foundation,
    data: Path,
    life: Lifetime,
    display: Display,
    lost: Callable[[], None],
) -> Government:
    """Own the stack, and start its parts."""
    with display.part("stack"):
        owned = await own(settings, foundation, Owner.of_folder(data), life.parts, lost)
    government = Government(settings, foundation, owned, detached=False, stop=life.stop.set)
    await together(
        government.start(life.parts, display),
        in_thread(import_app),  # meanwhile actors start
    )
    return government


def _ports(government: Government, sessions: KeptSessions) -> Ports:
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
        sessions=sessions,
    )
