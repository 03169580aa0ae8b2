"""The folder for the sockets and logs of a Ray of our own: this user's alone, and it does not grow.

Ray's default is `/tmp/ray`, with folders in which every user may write, and so put a socket in the
place of the raylet's. What a session left stays there, and each worker leaves three files.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE, S_ISDIR

import psutil

from deploy.errors import StartError
from deploy.stack.socket_path import takes_a_socket

NAME = "ray"

INSIDE = "tmp"
"""Ray opens the folder that it is given, and each in there, to all users; nobody else gets so far.
"""

LATEST = "session_latest"
"""As Ray calls the link to the session that runs."""

KEPT = 3600.0
"""Seconds for which the logs of a worker that has ended are kept while its session runs."""

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
"""What goes through Ray's command lines as it is."""

_LONGEST = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path of a socket below it."""

_OF_A_WORKER = re.compile(r"(?:worker-.*-|python-core-worker-.*_)([0-9]+)\.(?:out|err|log)")


def prepared(data: Path) -> Path:
    """Return the folder for Ray, with what the last session left, and nothing older.

    It is below `data`, unless no socket can be there: its path may be too long. Then it is in a
    temporary one, to which a link in `data` leads.

    Raises:
        StartError: it cannot be made.
    """
    folder = data / NAME
    try:
        folder = _made(folder)
    except OSError as error:
        raise StartError(f"the folder for Ray cannot be set up: {error}") from error
    inside = folder / INSIDE
    for each in sorted(inside.glob("session_2*"))[:-1]:  # by the time of their begin
        shutil.rmtree(each, ignore_errors=True)
    return inside


def _made(folder: Path) -> Path:
    if folder.is_symlink() or not _holds_sockets(folder):
        if not _is_ours(folder):
            # By a name that nobody knows before: another user's folder, or link, might be there.
            elsewhere = tempfile.mkdtemp(prefix="rayfold-")
            folder.unlink(missing_ok=True)
            folder.symlink_to(elsewhere)
        folder = folder.readlink()
    return folder


def remove_old_logs(data: Path) -> None:
    """Remove the logs of workers that ended long ago, of the session that runs."""
    before = time.time() - KEPT
    with suppress(OSError):
        for each in os.scandir(data / NAME / INSIDE / LATEST / "logs"):
            named = _OF_A_WORKER.fullmatch(each.name)
            if named and each.stat().st_mtime < before and not psutil.pid_exists(int(named[1])):
                os.unlink(each.path)


def _holds_sockets(folder: Path) -> bool:
    if _PLAIN.fullmatch(str(folder)):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        if takes_a_socket(folder / f"{INSIDE}/{_LONGEST}".replace("/", "-")):
            return True
    shutil.rmtree(folder, ignore_errors=True)  # of when the path was another one
    return False


def _is_ours(link: Path) -> bool:
    """Whether it leads to a folder that an earlier start made, and is there still."""
    with suppress(OSError):
        found = link.readlink()
        mode = found.lstat()
        private = S_ISDIR(mode.st_mode) and not S_IMODE(mode.st_mode) & 0o077
        temporary = found.parent == Path(tempfile.gettempdir())
        return private and temporary and mode.st_uid == os.geteuid()
    return False
