"""The folder for a local Ray's sockets and logs: private to this user, and bounded in size.

Ray's default is `/tmp/ray`, with folders in which every user may write, and so could replace the
raylet's socket. Sessions leave their files there, three for each worker.
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
"""Ray makes its folder, and each folder in it, accessible to all users; the folder above is
private.
"""

LATEST = "session_latest"
"""Ray's name of the link to the running session."""

KEPT = 3600.0
"""Seconds for which logs of an ended worker are kept while its session runs."""

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
"""Paths that need no quoting in Ray's command lines."""

_LONGEST = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest path of a socket below the folder."""

_OF_A_WORKER = re.compile(r"(?:worker-.*-|python-core-worker-.*_)([0-9]+)\.(?:out|err|log)")


def prepared(data: Path) -> Path:
    """Return Ray's folder, with the files of the last session, and nothing older.

    It is below `data`, unless the path is too long for sockets. Then it is in a temporary folder,
    to which a link in `data` leads.

    Raises:
        StartError: it cannot be created.
    """
    folder = data / NAME
    try:
        folder = _made(folder)
    except OSError as error:
        raise StartError(f"the folder for Ray cannot be set up: {error}") from error
    inside = folder / INSIDE
    for each in sorted(inside.glob("session_2*"))[:-1]:  # sorted by start time
        shutil.rmtree(each, ignore_errors=True)
    return inside


def _made(folder: Path) -> Path:
    if folder.is_symlink() or not _holds_sockets(folder):
        if not _is_ours(folder):
            # Under an unpredictable name: another user's folder or link might be there otherwise.
            elsewhere = tempfile.mkdtemp(prefix="rayfold-")
            folder.unlink(missing_ok=True)
            folder.symlink_to(elsewhere)
        folder = folder.readlink()
    return folder


def remove_old_logs(data: Path) -> None:
    """Remove logs of workers of the running session that ended long ago."""
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
    shutil.rmtree(folder, ignore_errors=True)  # left from when the path was another one
    return False


def _is_ours(link: Path) -> bool:
    """Return whether it leads to an existing folder that an earlier start created."""
    with suppress(OSError):
        found = link.readlink()
        mode = found.lstat()
        private = S_ISDIR(mode.st_mode) and not S_IMODE(mode.st_mode) & 0o077
        temporary = found.parent == Path(tempfile.gettempdir())
        return private and temporary and mode.st_uid == os.geteuid()
    return False
