"""Ports for what tests start."""

from __future__ import annotations

import os
import random
import socket

_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to connections, which would take one before it is listened on, and
above those of Ray's workers."""

_in_any_order = random.Random(os.getpid())
_given: set[int] = set()


def free_port() -> int:
    """Return one that nobody listens on, and that nobody else of this process has been given.

    Processes that test beside this one choose in another order.
    """
    while True:
        port = _in_any_order.choice(_PORTS)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
