"""Writing small files atomically, whatever crashes meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(file: Path, text: str, mode: int = 0o600) -> None:
    """Write a file atomically: a crash leaves the old version or the new one.

    `mode` has its permissions: by default, only the owner can read it.
    """
    beside = file.with_name(f"{file.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as content:
            content.write(text)
            content.flush()
            os.fsync(descriptor)
        beside.replace(file)
    except OSError:  # for example a full disk: a later write would commit the remains
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # otherwise the name may be lost in a power failure
    finally:
        os.close(folder)


def once_written(file: Path, make: Callable[[], str]) -> str:
    """Return the content of a file; if it is missing or empty, write what `make` returns first."""
    if file.exists() and (text := file.read_text().strip()):
        return text
    write_whole(file, make())
    return file.read_text()
