"""The embedded event store, as a child process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from deploy.errors import StartError
from deploy.stack.child_process import ChildProcess
from eventstore import embedded


class StoreProcess(ChildProcess):
    """`rayfold eventstore` on a port of its own, which it keeps over restarts."""

    name = "eventstore"
    title = "the embedded event store"

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._port = 0  # the system chooses a free one, once: then clients know it

    async def _command(self) -> Sequence[str]:
        where = ("--port", str(self._port), "--data", str(self._data))
        private = ("--private",) if sys.platform == "linux" else ()
        return (sys.executable, "-m", embedded.__name__, *where, *private)

    async def _address(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise StartError(f"{self.title} ended")
        address = line.decode().strip()
        self._port = urlsplit(address).port or 0
        return address
