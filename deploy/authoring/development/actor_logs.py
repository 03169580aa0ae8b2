"""Shows the actors' output on the terminal of `rayfold dev`: Ray writes it to files.

Folds, decisions and handlers run in actors: their author needs to see what they print, and where
they fail.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from rayfold.runtime.lasting import lasting

_EVERY = 0.3
"""Seconds between two checks: the folder is a new one with each start."""

_MOST = 2**20
"""The most bytes of a file that are read at once."""


class ActorLogs:
    """The logs of the actors of the Ray that `up` starts in its data folder."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "ray" / "tmp" / "session_latest" / "logs"
        self._read: dict[Path, int] = {}
        for file in self._files():  # earlier output is not shown
            with suppress(OSError):
                self._read[file] = file.stat().st_size

    async def follow(self) -> None:
        """Print new lines, until cancelled."""
        await lasting(self._tell, "telling what actors say")

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            sys.stderr.writelines(f"{line}\n" for line in self.news())
            sys.stderr.flush()

    def _files(self) -> list[Path]:
        logs = self._folder.resolve()
        return sorted(each for kind in ("err", "out") for each in logs.glob(f"worker-*.{kind}"))

    def news(self) -> list[str]:
        """Return the lines that are new since the last call."""
        found: list[str] = []
        for file in self._files():
            with suppress(OSError), file.open("rb") as opened:
                opened.seek(self._read.get(file, 0))
                come = opened.read(_MOST)
                if len(come) < _MOST:
                    come = come[: come.rfind(b"\n") + 1]
                self._read[file] = self._read.get(file, 0) + len(come)
                found += come.decode(errors="replace").splitlines()
        # Ray's markers, which identify the worker.
        return [line for line in found if not line.startswith(":")]
