"""The embedded store as a child process: it never outlives us, and comes back if it dies."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from deploy.errors import StartError
from eventstore import embedded

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
START = 30.0
STOP = 15.0


class StoreProcess:
    """`rayfold eventstore` on a port of its own."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._port = _free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Start it; return the connection string.

        Raises:
            StartError: it does not come up; the message is its own.
        """
        uri = await self._launch()
        self._watching = asyncio.create_task(self._watch())
        return uri

    async def stop(self) -> None:
        """Let it finish what it acknowledged."""
        if self._watching is not None:
            self._watching.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP):
                await process.wait()
        except TimeoutError:
            log.warning("the store did not stop in %s s and is killed", STOP)
            process.kill()
            await process.wait()

    async def _launch(self) -> str:
        errors = (self._data.parent / "eventstore.log").open("ab")
        with errors:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                embedded.__name__,
                "--port",
                str(self._port),
                "--data",
                str(self._data),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                # Its own session: Ctrl-C is for us, and we stop it last.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            await self.stop()
            raise StartError(f"the embedded store did not start: see {errors.name}")
        return line.decode().strip()

    async def _watch(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            log.error("the embedded store ended with %s; starting it again", code)
            try:
                await self._launch()
            except StartError as error:
                log.error("%s", error)
                await asyncio.sleep(0.5)


def _die_with_parent() -> None:
    # Runs between fork and exec. The kernel sends the signal when the thread that forked
    # ends, so this is started from the main thread.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
