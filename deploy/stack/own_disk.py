"""Whether the disk is full that one of our servers writes to."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.errors import StartError

NEARLY_FULL = 8 * 1024 * 1024
"""Bytes below which whoever writes there is not ready: it will soon fail."""

LEAST = 1024 * 1024
"""Bytes without which nothing starts: each part writes where it listens, and logs."""


def check_room(folder: Path) -> None:
    """Check that a stack can start in a folder; each part would find out in its own way, and time.

    Raises:
        StartError: its disk is full.
    """
    free = shutil.disk_usage(folder).free
    if free < LEAST:
        raise StartError(f"the disk of {folder} is full: {free} bytes are free")


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
            return f"its folder cannot be measured: {error.strerror}"
        return f"its disk is full: {free} bytes are free" if free < NEARLY_FULL else None
