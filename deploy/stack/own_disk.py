"""The disk to which a server of ours writes, and whether it is full."""

from __future__ import annotations

import shutil
from pathlib import Path

from deploy.errors import StartError

NEARLY_FULL = 8 * 1024 * 1024
"""Free bytes below which a server is not ready: it will soon fail."""

LEAST = 1024 * 1024
"""Free bytes that a start requires: each part writes its address and logs."""


def check_room(folder: Path) -> None:
    """Check that a folder has room for a stack; otherwise parts would fail in different ways.

    Raises:
        StartError: its disk is full.
    """
    free = shutil.disk_usage(folder).free
    if free < LEAST:
        raise StartError(f"the disk of {folder} is full: {free} bytes are free")


class OwnDisk:
    """A disk, measured by the folder that is written to, which may be a mount of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.measured: dict[str, int] = {}
        """The measurement for the status."""

    def wrong(self) -> str | None:
        """Measure the disk; return what is wrong with it, if anything."""
        try:
            free = self.measured["disk_free_bytes"] = shutil.disk_usage(self._folder).free
        except OSError as error:
            return f"its folder cannot be measured: {error.strerror}"
        return f"its disk is full: {free} bytes are free" if free < NEARLY_FULL else None
