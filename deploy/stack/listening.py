"""The gateway's listening address, and who can reach it."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address

from deploy.errors import StartError
from rayfold.runtime.ports import rpc_ports


def bound(host: str, port: int, *, open_to_all: bool, shared: bool = False) -> socket.socket:
    """Return a socket bound to the address, for a gateway that serves there later.

    It is bound before anything is started: an occupied port is the most common mistake, and the
    system might otherwise give it to a connection while the parts start.

    `open_to_all` says that no token is needed. A `shared` port may be used by other gateways too.

    Raises:
        StartError: other machines could reach a gateway without tokens, or the address cannot be
            bound.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StartError(f"{host} is not an address of this machine: {error}") from error
    # For a name with IPv4 and IPv6 addresses, such as `localhost`, more clients can reach IPv4.
    family, *_, address = min(found, key=lambda each: each[0] == socket.AF_INET6)
    if open_to_all and not ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise StartError(
            f"others reach {host}, and no token is required: set tokens (RAYFOLD_TOKENS, or "
            "[tokens.NAME] in rayfold.toml), or serve on 127.0.0.1"
        )
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # for example a kernel without IPv6
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
    """Check the port range for calls between this node's parts, before any of them listens.

    Raises:
        StartError: the environment variable with the range is invalid.
    """
    try:
        rpc_ports()
    except ValueError as error:
        raise StartError(str(error)) from error


def url(host: str, port: int) -> str:
    """Return the URL of a gateway that listens there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def local_url(host: str, port: int) -> str:
    """Return the URL by which this machine reaches it: an unspecified address includes loopback."""
    return url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)
