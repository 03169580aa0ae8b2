"""Whether a path can be a Unix socket: it may be too long, or its file system may have none."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path


def takes_a_socket(path: Path) -> bool:
    """Return whether one can be there, by making one, unless one is there already."""
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
