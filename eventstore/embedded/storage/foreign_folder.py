"""Folders of somebody's, given by mistake: `--data .` in a project would close all of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_OF_A_DISK = "lost+found"
"""The folder on a new file system, which is allowed: a mounted disk is meant for the server."""


def foreign(folder: Path, ours: Iterable[str]) -> str | None:
    """Return the name of a foreign file in a folder; None if the server may use the folder.

    Only the working folder and its parents are checked: any other folder was named on purpose, and
    may contain, for instance, the log of the command that runs. A folder with any of the files
    `ours` is accepted. Hidden files do not count: a home folder has them, and so has an otherwise
    empty folder that is kept in a repository.
    """
    here = Path.cwd()
    if folder.resolve() not in (here, *here.parents):
        return None
    if any((folder / each).exists() for each in ours):
        return None
    names = sorted(each.name for each in folder.iterdir())
    return next((each for each in names if each[0] != "." and each != _OF_A_DISK), None)
