"""Running the embedded server as a process."""

import argparse
import asyncio
import gc
import sqlite3
import sys
from pathlib import Path

import uvloop

from eventstore.embedded.http2 import peer_user
from eventstore.embedded.http2.tls import TlsError, tls_context
from eventstore.embedded.server import AddressError, EmbeddedServer
from eventstore.embedded.storage.data_folder import FolderInUseError, ForeignFolderError
from eventstore.embedded.storage.schema import SchemaMismatchError
from rayfold.runtime.ending_signals import ending_signals
from rayfold.runtime.log_format import log_to_stderr

_SWITCH_INTERVAL = 0.0005
"""Seconds. The writer thread and the event loop share the interpreter; with Python's default of
5 ms, either would wait for the other longer than a commit takes."""


_GC_THRESHOLDS = (50_000, 20, 50)
"""Events have no cycles, but with Python's defaults the collector visits them again and again."""


def run(
    host: str,
    port: int,
    data: Path,
    system_projections: bool = False,
    tls_certificate: Path | None = None,
    tls_private_key: Path | None = None,
    *,
    private: bool = False,
) -> int:
    """Serve until told to end; return the process's exit code.

    1: the disk failed, so that only a new process can continue; 2: the server cannot start.
    """
    if private and not peer_user.is_known():
        return _refuse(ValueError("this system does not tell which user opened a connection"))
    try:
        tls = tls_context(tls_certificate, tls_private_key)
    except TlsError as error:
        return _refuse(error)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.set_threshold(*_GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            _serve(
                EmbeddedServer(
                    data,
                    host,
                    port,
                    system_projections=system_projections,
                    tls=tls,
                    private=private,
                )
            )
        )


def _refuse(error: Exception | str) -> int:
    print(f"eventstore: {error}".splitlines()[0], file=sys.stderr, flush=True)
    return 2


async def _serve(server: EmbeddedServer) -> int:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in ending_signals():
        loop.add_signal_handler(number, asked.set)
    try:
        await server.start()
    except (AddressError, SchemaMismatchError, sqlite3.Error) as error:
        return _refuse(error)
    except (FolderInUseError, ForeignFolderError) as error:
        return _refuse(f"{error}: give another --data")
    except OSError as error:
        return _refuse(f"the data folder cannot be used: {error}: give another --data")
    print(server.uri, flush=True)
    waiting = [asyncio.create_task(asked.wait()), failed := asyncio.create_task(server.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await server.stop()
    for task in waiting:
        task.cancel()
    if failed.done() and not failed.cancelled() and (reason := failed.result()):
        print(f"eventstore: {reason}", file=sys.stderr, flush=True)
        return 1
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
    parser.add_argument(
        "--private", action="store_true", help="serve no other user of this machine, but root"
    )
    given = parser.parse_args(arguments)
    log_to_stderr()
    return run(
        given.host,
        given.port,
        given.data,
        given.system_projections,
        given.tls_certificate,
        given.tls_private_key,
        private=given.private,
    )
