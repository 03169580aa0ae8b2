"""Where the gateway listens, and who may reach it there."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address

from deploy.errors import StartError
from rayfold.runtime.ports import rpc_ports


def bound(host: str, port: int, *, open_to_all: bool, shared: bool = False) -> socket.socket:
    """Return a socket of the address, for a gateway that serves there later.

    It is taken before anything is started: a taken port is the most common mistake, and what the
    system takes for a connection while the parts start would be another's at the end.

    `open_to_all` says that nobody needs a token. A `shared` port may be that of other gateways too.

    Raises:
        StartError: others could reach a gateway that is open to all, or it cannot be bound.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StartError(f"{host} is no address of this machine: {error}") from error
    # A name of both, as `localhost` may be, is what more clients can reach.
    family, *_, address = min(found, key=lambda each: each[0] == socket.AF_INET6)
    if open_to_all and not ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise StartError(
            f"others reach {host}, and nobody would need a token: set tokens (RAYFOLD_TOKENS, or "
            "[tokens.NAME] in rayfold.toml), or serve on 127.0.0.1"
        )
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # a kernel without IPv6, say
        raise StartError(f"{host} cannot be listened on here: {error.strerror}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"port {port} is taken: give another --port") from error
        raise StartError(f"{host}:{port} cannot be bound: {error.strerror or error}") from error
    return listening


def check_rpc_ports() -> None:
    """Check the ports for the calls of this node's parts, before any of them listens.

    Raises:
        StartError: the variable that has them is no range.
    """
    try:
        rpc_ports()
    except ValueError as error:
        raise StartError(str(error)) from error


def url(host: str, port: int) -> str:
    """Return the URL of a gateway that listens there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def local_url(host: str, port: int) -> str:
    """Return the URL under which this machine reaches it: no address is any address."""
    return url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
