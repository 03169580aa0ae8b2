"""The processes that a stack started, including orphans: recognised by their environment.

When a gateway is killed, the kernel ends its children. Other processes, or survivors, are
recognised by the mark of the data folder in their environment.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

_FOLDER = "_RAYFOLD_FOLDER"
_CHILD = "_RAYFOLD_CHILD"

END_TIMEOUT = 5.0
"""Seconds for a process to end after SIGKILL."""


def mark_descendants(data: Path) -> None:
    """Mark all processes that this one starts from now on as belonging to this data folder."""
    os.environ[_FOLDER] = str(data)


def child_environment(name: str) -> dict[str, str]:
    """Return the environment of a child that is supervised separately from Ray's processes."""
    return {**os.environ, _CHILD: name}


def descendants(data: Path) -> list[psutil.Process]:
    """Return all processes of a data folder's stack, except this one."""
    return [process for process, _ in _marked(data)]


def ray_processes(data: Path) -> list[psutil.Process]:
    """Return Ray's processes, including actors."""
    return [process for process, child in _marked(data) if child is None]


def end(processes: Iterable[psutil.Process]) -> list[int]:
    """Kill these processes and wait for their end; return those that existed. Blocks."""
    ended = []
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
        ended.append(process)
    _, alive = psutil.wait_procs(ended, timeout=END_TIMEOUT)
    for process in alive:
        log.warning("a process does not end", extra={"pid": process.pid})
    return [process.pid for process in ended]


def _marked(data: Path) -> Iterable[tuple[psutil.Process, str | None]]:
    found: dict[int, tuple[psutil.Process, str | None]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it is another user's, or gone
            environment = process.environ()
            if environment.get(_FOLDER) == str(data):
                child = environment.get(_CHILD)
                # Their children are included: a long process title overwrites the environment by
                # which they are recognised.
                for each in (process, *process.children(recursive=True)):
                    found.setdefault(each.pid, (each, child))
    found.pop(os.getpid(), None)
    return found.values()
