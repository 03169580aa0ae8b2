"""The disk that something of ours writes to, and whether it is full."""

from __future__ import annotations

import shutil
from pathlib import Path

NEARLY_FULL = 8 * 1024 * 1024
"""Bytes below which whoever writes there is not ready: it will soon fail."""


class OwnDisk:
    """Measured by the very folder that is written to: that may be a disk by itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.measured: dict[str, int] = {}
        """As the status has it."""

    def wrong(self) -> str | None:
        """Measure it; return what is wrong with it, if anything is."""
        try:
            free = self.measured["disk_free_bytes"] = shutil.disk_usage(self._folder).free
        except OSError as error:
            return f"{self._folder}: {error.strerror}"
        return f"its disk is full: {free} bytes are free" if free < NEARLY_FULL else None
