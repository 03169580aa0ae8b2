"""Running the embedded server as a process."""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path

import uvloop

from eventstore.embedded.folder import FolderInUseError
from eventstore.embedded.schema import SchemaTooNewError
from eventstore.embedded.server import EmbeddedServer

_SWITCH_INTERVAL = 0.0005
"""Seconds. The writer thread and the event loop share the interpreter; at Python's default of 5 ms
either would wait longer for the other than a commit takes."""


_GC_THRESHOLDS = (50_000, 20, 50)
"""Events hold no cycles; at Python's defaults the collector walks over the tail again and again."""


def run(host: str, port: int, data: Path, system_projections: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; returns the process's exit code (2: cannot start)."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.set_threshold(*_GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(host, port, data, system_projections))


async def _serve(host: str, port: int, data: Path, system_projections: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = EmbeddedServer(data, host, port, system_projections=system_projections)
    try:
        await server.start()
    except (FolderInUseError, SchemaTooNewError, OSError) as error:
        print(f"eventstore: {error}".splitlines()[0], file=sys.stderr, flush=True)
        return 2
    print(server.uri, flush=True)
    await stop.wait()
    await server.stop()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """``python -m eventstore.embedded``."""
    parser = argparse.ArgumentParser(prog="eventstore", description="The embedded event store.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2113)
    parser.add_argument("--data", type=Path, default=Path(".rayfold/eventstore"))
    parser.add_argument("--system-projections", action="store_true")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    return run(given.host, given.port, given.data, given.system_projections)
