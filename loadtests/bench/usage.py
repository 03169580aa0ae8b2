"""CPU and memory of a server with all of its processes, its database included."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def processes(pid: int, folder: Path) -> list[psutil.Process]:
    """Return the tree under `pid`, and a Postgres of its own with its data in `folder`."""
    roots = [psutil.Process(pid)]
    for process in psutil.process_iter(["name", "cmdline"]):
        command = process.info["cmdline"] or []
        if "postgres" in (process.info["name"] or "") and str(folder) in " ".join(command):
            roots.append(process)
    found: dict[int, psutil.Process] = {}
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            found |= {each.pid: each for each in (root, *root.children(recursive=True))}
    return list(found.values())


def cpu_seconds(of: list[psutil.Process]) -> float:
    """Return user and system time so far."""
    total = 0.0
    for process in of:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def cpu_of(pid: int, folder: Path) -> float:
    """Return the CPU seconds of a server so far, including those of its ended processes.

    Postgres ends sessions and begins others: counting only the processes that existed first would
    lose the later ones.
    """
    total = 0.0
    for process in processes(pid, folder):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # including children that it has waited for
    return total


def memory_bytes(of: list[psutil.Process]) -> int:
    """Return the proportional set size: shared memory counts once."""
    total = 0
    for process in of:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total
