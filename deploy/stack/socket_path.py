"""Checking that a Unix socket can be at a path: it may be too long, or its file system has none."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path


def takes_a_socket(path: Path) -> bool:
    """Return whether a socket can be there, by creating one unless it exists."""
    if path.is_socket():
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(path))
        except OSError:
            return False
        finally:
            with suppress(OSError):
                path.unlink()
    return True
