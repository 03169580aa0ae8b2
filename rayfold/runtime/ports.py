"""The ports on which the processes of a node listen for each other's calls: any, or a range.

A firewall or a NetworkPolicy needs a fixed range. The range belongs to the node, not to a stack, so
it is set in the environment of the process that starts Ray there, and the actors inherit it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import re
from collections.abc import Callable

VARIABLE = "RAYFOLD_RPC_PORTS"
"""`20000-20999`, both included; if unset, the system chooses. A node needs one port for each host,
dedicated actor and replica on it, of all stacks, and some for those that are being replaced."""

_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")


def rpc_ports() -> range | None:
    """Return the ports to choose from; None if any may be used.

    Raises:
        ValueError: the variable is not a range of ports.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    found = _RANGE.fullmatch(text)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < first <= last <= 65535:
        raise ValueError(f"{VARIABLE} must be FIRST-LAST, as in 20000-20999, not {text!r}")
    return range(first, last + 1)


def that_listens(server: asyncio.Server) -> asyncio.Server:
    """Return a new server, having checked that it listens.

    Two processes may both bind a port before one of them listens there. The other then gets an
    error, which uvloop does not raise: the server merely has no socket.

    Raises:
        OSError: another process listens there.
    """
    if not all(server.sockets):
        server.close()
        raise OSError(errno.EADDRINUSE, "another process has just begun to listen there")
    return server


async def listen(protocol: Callable[[], asyncio.Protocol], host: str) -> asyncio.Server:
    """Listen on a free port of this host, within `rpc_ports`.

    Raises:
        OSError: none of them is free, or the host address is not one of this machine.
        ValueError: see `rpc_ports`.
    """
    loop = asyncio.get_running_loop()
    ports = rpc_ports()
    if ports is None:
        return that_listens(await loop.create_server(protocol, host, 0))
    # In random order: processes that start together would otherwise collide on the same ports.
    for port in random.sample(ports, len(ports)):
        try:
            return that_listens(await loop.create_server(protocol, host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"every port of {VARIABLE} is taken: {ports[0]}-{ports[-1]}")
