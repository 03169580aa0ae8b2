"""The gateway's HTTP server: runs until told to stop; reports when the views are ready."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from deploy.errors import StartError
from deploy.stack.access import admission_of
from deploy.stack.listening import url
from deploy.stack.openness import what_is_open
from deploy.stack.settings import Settings
from deploy.stack.starting import keep_going
from rayfold import RayfoldError, Registry
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.part_process import end_part
from rayfold.runtime.tracing import RequestTraces, start_tracing

if TYPE_CHECKING:
    from api.ports import Ports
    from projections.operations.monitor import Monitor

log = logging.getLogger(__name__)

CATCH_UP_TIMEOUT = 30.0
"""Seconds that the gateway, which serves already, waits for views before it prints `ready`."""

REMINDER = 5.0
"""Seconds after which it prints again what it waits for."""


def import_app() -> None:
    """Import the application, which takes a third of a second."""
    from api import app  # noqa: F401
    from api.http import server  # noqa: F401


async def serve_http(
    settings: Settings,
    registry: Registry,
    ports: Ports,
    monitor: Monitor,
    listening: socket.socket,
    stop: asyncio.Event,
    serving: Callable[[], None] = lambda: None,
    ready: Callable[[], None] = lambda: None,
    *,
    drain: float = 0.0,
) -> None:
    """Serve until `stop` is set; requests in progress are completed.

    `serving` is called first, `ready` once `monitor` reports that the views are ready. For
    `listening` and `drain` see `api.http.server.serve`.

    Raises:
        StartError: another process listens on the address.
    """
    from api.app import create_app
    from api.http.server import serve

    app = create_app(
        registry,
        ports,
        admission_of(settings),
        openness=partial(what_is_open, settings),
        traces=RequestTraces(traced) if (traced := start_tracing("gateway")) else None,
    )
    address = url(settings.host, settings.port)
    async with AsyncExitStack() as waiting:
        waiting.push_async_callback(end_part)
        waiting.push_async_callback(app.close)

        def on_ready() -> None:
            serving()
            say_ready = partial(_say_ready, monitor, address, ready)
            keep_going(say_ready, "saying that it is ready", waiting)

        try:
            await serve(
                app,
                listening,
                stop=stop,
                on_ready=on_ready,
                drain=drain,
            )
        except OSError as error:
            raise StartError(f"{address} cannot be served: {error}") from error


async def _say_ready(monitor: Monitor, address: str, ready: Callable[[], None]) -> None:
    """Report readiness once the views are ready, or that it serves without some of them."""
    reminding = asyncio.create_task(_remind(monitor))
    try:
        await monitor.caught_up(CATCH_UP_TIMEOUT)
    except RayfoldError as error:
        log.warning(
            "serving without all views", extra={"reason": error, "behind": _behind(monitor)}
        )
    finally:
        reminding.cancel()
    collect_rarely()
    ready()
    say(f"ready {address}")


def say(line: str) -> None:
    """Print a line for the process that started this one, if it still reads."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError as error:
        log.warning("a line could not be printed", extra={"line": line, "error": error})


async def _remind(monitor: Monitor) -> None:
    seconds = 0.0
    while True:
        await asyncio.sleep(REMINDER)
        seconds += REMINDER
        log.warning("waiting for views", extra={"behind": _behind(monitor), "seconds": seconds})


def _behind(monitor: Monitor) -> str:
    return ", ".join(each["part"] for each in monitor.status() if not each["ready"])
