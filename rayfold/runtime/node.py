"""The name of the node that a process runs on: a host's, or a container's."""

from __future__ import annotations

import socket
from functools import cache


@cache
def node_name() -> str:
    """Return the node's name as operators know it."""
    return socket.gethostname()
