"""Running the embedded server as a process."""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path

import uvloop

from eventstore.embedded.http2.tls import TlsError, tls_context
from eventstore.embedded.server import EmbeddedServer
from eventstore.embedded.storage.data_folder import FolderInUseError
from eventstore.embedded.storage.schema import SchemaMismatchError

_SWITCH_INTERVAL = 0.0005
"""Seconds. The writer thread and the event loop share the interpreter; at Python's default of 5 ms
either would wait longer for the other than a commit takes."""


_GC_THRESHOLDS = (50_000, 20, 50)
"""Events hold no cycles; at Python's defaults the collector walks over them again and again."""


def run(
    host: str,
    port: int,
    data: Path,
    system_projections: bool = False,
    tls_certificate: Path | None = None,
    tls_private_key: Path | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the process's exit code (2: cannot start)."""
    try:
        tls = tls_context(tls_certificate, tls_private_key)
    except TlsError as error:
        return _refuse(error)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.set_threshold(*_GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            _serve(EmbeddedServer(data, host, port, system_projections=system_projections, tls=tls))
        )


def _refuse(error: Exception) -> int:
    print(f"eventstore: {error}".splitlines()[0], file=sys.stderr, flush=True)
    return 2


async def _serve(server: EmbeddedServer) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await server.start()
    except (FolderInUseError, SchemaMismatchError, OSError) as error:
        return _refuse(error)
    print(server.uri, flush=True)
    await stop.wait()
    await server.stop()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m eventstore.embedded``."""
    parser = argparse.ArgumentParser(prog="eventstore", description="The embedded event store.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2113)
    parser.add_argument("--data", type=Path, default=Path(".rayfold/eventstore"))
    parser.add_argument("--system-projections", action="store_true")
    parser.add_argument("--tls-certificate", type=Path, metavar="FILE")
    parser.add_argument("--tls-private-key", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    return run(
        given.host,
        given.port,
        given.data,
        given.system_projections,
        given.tls_certificate,
        given.tls_private_key,
    )
