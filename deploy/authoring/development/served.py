"""`rayfold up` as the child of `rayfold dev`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from deploy.stack import launch

STOP_TIMEOUT = 60.0
"""Seconds for a stack to end in order."""


async def child(*arguments: str) -> asyncio.subprocess.Process:
    """Start this Python with these arguments; it is told to end when we do, whatever ends us."""
    # The kernel sends the signal when the thread that forked ends: this is the main thread.
    # In a group of its own, Ctrl-C is for us, and we stop it.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", launch.__file__),
        *(str(signal.SIGTERM.value), str(os.getpid()), "-1", "-1"),
        *(sys.executable, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
    )


class Served:
    """A stack that is started again, and ends in order."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` is what this Python is told to run."""
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, and do not wait: it says itself when it is ready."""
        self._process = await child(*self._command)

    async def ended(self) -> int:
        """Return its exit code once it has ended by itself; never, if it does not run."""
        if self._process is None:
            await asyncio.Event().wait()
            raise AssertionError  # for who reads types
        code = await self._process.wait()
        self._process = None
        return code

    async def stop(self) -> None:
        """Let it finish what it acknowledged, and end it; again, if that was cancelled."""
        if (process := self._process) is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await process.wait()
            except TimeoutError:
                process.kill()  # what it leaves, the next one ends
                await process.wait()
        self._process = None
