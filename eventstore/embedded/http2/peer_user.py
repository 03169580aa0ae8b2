"""Which user of this machine is at the other end of a connection: the kernel knows.

A client on loopback is on this machine, but may be another user. Linux lists both ends of such a
connection, each with the user who owns the socket (`/proc/net/tcp` in proc(5)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = 0

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED = "01"


class End(NamedTuple):
    """One end of a connection."""

    port: int
    peer_port: int
    established: bool
    user: int


def is_known() -> bool:
    """Return whether this system lists the users."""
    return _TABLES[0].exists()


def is_ours(port: int, peer_port: int) -> bool:
    """Return whether the peer of a connection of this process is of our own user, or root.

    `port` is that of our end. If the other end has been closed already, the result is False: its
    line no longer names a user.
    """
    ends = [each for each in _ends() if (each.port, each.peer_port) == (peer_port, port)]
    return bool(ends) and all(
        each.established and each.user in (ROOT, os.geteuid()) for each in ends
    )


def _ends() -> Iterator[End]:
    for table in _TABLES:
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                _, local, remote, state, _, _, _, user, *_ = line.split()
                yield End(_port(local), _port(remote), state == _ESTABLISHED, int(user))


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
