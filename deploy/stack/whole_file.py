"""Writes small files atomically."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(file: Path, text: str, mode: int = 0o600) -> None:
    """Write a file; a crash leaves the one before, or this one.

    `mode` is who may read it: by default its owner alone.
    """
    beside = file.with_name(f"{file.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as content:
            content.write(text)
            content.flush()
            os.fsync(descriptor)
        beside.replace(file)
    except OSError:  # a full disk, say: what is left of it would be committed by somebody
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else the name may be lost with the power
    finally:
        os.close(folder)


def once_written(file: Path, make: Callable[[], str]) -> str:
    """Return what a file has; what `make` returns is written where it is missing or empty."""
    if file.exists() and (text := file.read_text().strip()):
        return text
    write_whole(file, make())
    return file.read_text()
