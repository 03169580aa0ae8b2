"""Ray on this machine: a local Ray is restarted when it dies, a cluster is joined again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from deploy.errors import StartError
from deploy.stack import ray_folder, ray_runtime
from deploy.stack.descendants import end, ray_processes
from deploy.stack.own_disk import OwnDisk
from deploy.stack.ray_answers import RayAnswers
from rayfold import RayfoldError
from rayfold.runtime.threads import in_thread
from rayfold.runtime.together import together

log = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between two checks of Ray's processes."""

CLEAN = 60.0
"""Seconds between two checks for old logs."""

PAUSE = 1.0
"""Seconds before another attempt to start it."""


class OnRay(Protocol):
    """A side that has actors: the write side or the read side."""

    async def lose(self) -> None:
        """Stop calling actors."""
        ...

    async def heal(self) -> None:
        """Start the actors again."""
        ...


class LocalRay:
    """A Ray that is replaced as a whole when one of its processes is lost.

    A GCS without a disk loses its actors when it dies, and the actors of a raylet die with it. So
    nothing of an old Ray is worth keeping: its actors are started again in a new one. The log is
    the truth; pending commands are sent again with their ids. The same holds for a cluster that was
    joined when its raylet on this machine ends: the cluster's operator restarts that, and the
    actors of this process have ended with its connection.
    """

    def __init__(self, data: Path | None, start: Callable[[], None]) -> None:
        """`start` blocks. The processes of a local Ray are marked with the folder `data`."""
        self._data = data
        self._start = start
        self.answers = RayAnswers(ray_runtime.addresses)
        self._ended: str | None = None
        self._restarts = 0

    def status(self) -> dict[str, Any]:
        """Return Ray as a part of the status, which serves no request by itself.

        If the disk of its session is full, actors go on, but none can start.
        """
        part = {"part": "ray", "kind": "server", "serves": False, "ready": self._ended is None}
        part["restarts"] = self._restarts
        if self._ended is not None:
            part["error"] = f"{self._ended}; Ray is started again"
        elif (silent := self.answers.silent()) is not None:
            # Running actors go on.
            part |= {"ready": False, "error": f"{silent} does not answer"}
        elif (session := ray_runtime.session_folder()) is not None:
            disk = OwnDisk(session)
            if (wrong := disk.wrong()) is not None:
                part |= {"ready": False, "error": wrong, "plainly": wrong}
            part |= disk.measured
        return part

    async def watch(self, sides: Sequence[OnRay], started: Callable[[], None]) -> None:
        """Replace a Ray that has lost a process; call `started` when the new one is up."""
        while True:
            await asyncio.sleep(LOOK)
            ray_runtime.drop_ended_fork_server()
            self._ended = self._why_over()
            if self._ended is None:
                continue
            since = time.monotonic()
            log.error("Ray is started again", extra={"reason": self._ended})
            await asyncio.gather(*(side.lose() for side in sides))
            while not await self._replaced(sides, started):
                await asyncio.sleep(PAUSE)
                await asyncio.gather(*(side.lose() for side in sides))
            self._restarts += 1
            self._ended = None
            self.answers.forget()
            seconds = round(time.monotonic() - since, 1)
            log.warning("Ray and all actors run again", extra={"seconds": seconds})

    async def tidy_up(self) -> None:
        """Periodically remove logs of actors that ended long ago: Ray keeps all of them."""
        while self._data is not None:
            await asyncio.sleep(CLEAN)
            await in_thread(partial(ray_folder.remove_old_logs, self._data))

    def _why_over(self) -> str | None:
        """Return why this Ray must be replaced, if so."""
        if (name := ray_runtime.ended()) is not None:
            return f"{name} ended"
        # A cluster's processes are its operator's concern.
        if ray_runtime.is_ours() and (name := self.answers.hanging()) is not None:
            return f"{name} hangs"
        return None

    async def _replaced(self, sides: Sequence[OnRay], started: Callable[[], None]) -> bool:
        try:
            await in_thread(self._restart)
            started()
            await together(*(side.heal() for side in sides))
        except (StartError, RayfoldError) as error:
            log.error("Ray does not start", extra={"error": error})
            return False
        except Exception:  # whatever Ray raises: nothing else would start it again
            log.exception("Ray and its actors do not start")
            return False
        return True

    def _restart(self) -> None:
        # Remaining processes would delay its end: each waits for dead ones.
        if self._data is not None:
            end(ray_processes(self._data))
        ray_runtime.stop()
        self._start()
