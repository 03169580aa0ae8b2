"""Folders that somebody has already: what is kept there beside our data was not meant for them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_OF_A_DISK = "lost+found"
"""What a new disk has; who mounts one means it to be ours."""


def foreign(folder: Path, ours: Iterable[str]) -> str | None:
    """Return the name of a file in a folder that has none of `ours`; None if we may take it.

    Hidden ones do not count: those of a home, or of who keeps an empty folder in a repository.
    """
    if any((folder / each).exists() for each in ours):
        return None
    names = sorted(each.name for each in folder.iterdir())
    return next((each for each in names if each[0] != "." and each != _OF_A_DISK), None)
