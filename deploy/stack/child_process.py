"""A server as our child process: it never outlives us, and is restarted if it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.errors import StartError
from deploy.stack import launch
from deploy.stack.descendants import child_environment
from rayfold.runtime.lasting import lasting
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import cancel

log = logging.getLogger(__name__)

START_TIMEOUT = 30.0
"""Seconds that a server has until it answers."""

STOP_TIMEOUT = 15.0
"""Seconds that a server has for an orderly end."""

LONGEST_LOG = 16 * 2**20
"""The size in bytes at which its log is rotated; one older file is kept."""

LOOK = 60.0
"""Seconds between two checks of the log's size."""

_PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before the first, second, … restart; the last value for all others."""


class ChildProcess(ABC):
    """A server in a process group of its own: Ctrl-C only reaches us, and we stop it last."""

    name: str
    """Its name in `rayfold status`."""
    title: str
    """Its name in sentences."""
    stop_signal = signal.SIGTERM
    """Makes it finish what it acknowledged, and end."""
    start_timeout = START_TIMEOUT
    """Seconds that it has until it answers."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._errors = data.parent / f"{self.name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._watching: list[asyncio.Task[None]] = []
        self._ready = False
        self._restarts = 0

    @abstractmethod
    async def _command(self) -> Sequence[str]:
        """Return the command to run; create what it needs first."""

    @abstractmethod
    async def _address(self, process: asyncio.subprocess.Process) -> str:
        """Wait until it answers; return its address. Cancelled if it takes too long or ends."""

    def _user(self) -> tuple[int, int]:
        """Return the user and group ids to run as; -1 for our own."""
        return -1, -1

    async def start(self) -> str:
        """Start the server; return its address.

        Raises:
            StartError: it does not start.
        """
        address = await self._launch()
        self._watching = [
            asyncio.create_task(lasting(self._watch, f"watching {self.name}")),
            asyncio.create_task(lasting(self._keep_log_short, f"the log of {self.name}")),
        ]
        return address

    async def stop(self) -> None:
        """Let the server finish what it acknowledged, and end."""
        await cancel(*self._watching)
        self._ready = False
        await self._end()

    def status(self) -> dict[str, Any]:
        """Return whether the process runs; `Probe` checks whether it answers."""
        running = self._process is not None and self._ready
        part: dict[str, Any] = {"ready": running, "restarts": self._restarts}
        if running and self._process is not None:
            part["pid"] = self._process.pid
        else:
            part["error"] = "it is started again"
        return part

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(self.stop_signal)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            log.warning("a process does not end and is killed", extra={"server": self.name})
            process.kill()
            await process.wait()

    async def _launch(self) -> str:
        command = await self._command()
        # The kernel sends the signal when the forking thread ends: this is the main thread.
        first = (self.stop_signal.value, os.getpid(), *self._user())
        with self._errors.open("ab") as errors:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                launch.__file__,
                *(str(each) for each in first),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=child_environment(self.name),
            )
        answering = asyncio.ensure_future(self._address(process))
        ended = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait(
                [answering, ended],
                timeout=self.start_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if answering.done() and answering.exception() is None:
                self._ready = True
                return answering.result()
        finally:
            answering.cancel()
            ended.cancel()
            await asyncio.gather(answering, ended, return_exceptions=True)
            if not self._ready:
                await self._end()
        raise StartError(f"{self.title} did not start: see {self._errors}")

    async def _watch(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            self._ready = False
            log.error(
                "a process ended and is started again", extra={"server": self.name, "code": code}
            )
            attempt = 0
            while not self._ready:
                await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
                attempt += 1
                try:
                    await self._launch()
                except (StartError, OSError) as error:
                    log.error(
                        "a process does not start", extra={"server": self.name, "error": error}
                    )
            self._restarts += 1

    async def _keep_log_short(self) -> None:
        """Rotate the log: a server that refuses requests logs each one, for weeks."""
        while True:
            await asyncio.sleep(LOOK)
            if self._errors.stat().st_size > LONGEST_LOG:
                await in_thread(self._begin_log_anew)

    def _begin_log_anew(self) -> None:
        # The server appends to it, so the next line is at its beginning.
        try:
            shutil.copyfile(self._errors, f"{self._errors}.1")
        except OSError as error:  # a full disk: the growing log must not keep it full
            log.error("a log is cut without a copy", extra={"file": self._errors, "error": error})
            Path(f"{self._errors}.1").unlink(missing_ok=True)
        os.truncate(self._errors, 0)
