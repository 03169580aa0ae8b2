"""`rayfold up` as the child of `rayfold dev`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from deploy.stack import launch

STOP_TIMEOUT = 60.0
"""Seconds that a stack has for an orderly end."""


async def child(*arguments: str) -> asyncio.subprocess.Process:
    """Start this Python with these arguments; the child is told to end when we end."""
    # The kernel sends the signal when the forking thread ends: this is the main thread.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", launch.__file__),
        *(str(signal.SIGTERM.value), str(os.getpid()), "-1", "-1"),
        *(sys.executable, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
    )


class Served:
    """A stack that is restarted, with an orderly end."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` is what this Python runs."""
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the stack without waiting: it reports itself when it is ready."""
        self._process = await child(*self._command)

    async def ended(self) -> int:
        """Return its exit code once it has ended by itself; wait forever if it does not run."""
        if self._process is None:
            await asyncio.Event().wait()
            raise AssertionError  # for the type checker
        code = await self._process.wait()
        self._process = None
        return code

    async def stop(self) -> None:
        """Let it finish what it acknowledged, and end; can be called again if it was cancelled."""
        if (process := self._process) is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await process.wait()
            except TimeoutError:
                process.kill()  # the next one ends what it leaves
                await process.wait()
        self._process = None
