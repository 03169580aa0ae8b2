"""Folders of somebody's, given by mistake: `--data .` in a project would close all of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_OF_A_DISK = "lost+found"
"""What a new disk has; who mounts one means it to be ours."""


def foreign(folder: Path, ours: Iterable[str]) -> str | None:
    """Return the name of a file of somebody's in a folder; None if we may take the folder.

    Only the working folder and those above it are asked about: whoever names another one means
    that, whatever is in it, like the log of the command that is run. One that has any of `ours` is
    ours. Hidden files do not count: those of a home, or of who keeps an empty folder in a
    repository.
    """
    here = Path.cwd()
    if folder.resolve() not in (here, *here.parents):
        return None
    if any((folder / each).exists() for each in ours):
        return None
    names = sorted(each.name for each in folder.iterdir())
    return next((each for each in names if each[0] != "." and each != _OF_A_DISK), None)
