"""Checking that this machine and Ray's cluster can reach each other's servers."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from deploy.errors import StartError
from deploy.stack.nodes import Node
from deploy.stack.ray_answers import GREETING
from deploy.stack.settings import EMBEDDED
from eventstore.kurrentdb.loopback import is_loopback

CONNECT = 5.0
"""Seconds within which Ray's head must accept a connection."""

ANSWER = 10.0
"""Seconds within which it must then send something: for a hanging process, the kernel accepts as
well.
"""


def check_ray(address: str) -> None:
    """Check Ray's address before anything is started: Ray itself tries for minutes.

    Raises:
        StartError: no process listens there, or it hangs, or the address is invalid.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise StartError(f"--ray-address is HOST:PORT of Ray's head, or auto: {address!r}")
    try:
        head = socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT)
    except (OSError, OverflowError) as error:
        raise StartError(f"no Ray answers at {address} ({error}): check --ray-address") from error
    with head:
        head.settimeout(ANSWER)
        try:
            with suppress(ConnectionError):  # it lives: with TLS it rejects a plain greeting
                head.sendall(GREETING)
                head.recv(1)
        except TimeoutError as error:
            raise StartError(
                f"Ray's head at {address} does not answer within {ANSWER:.0f} s: it hangs,"
                " and has to be started again"
            ) from error


def check_cluster(
    nodes: Sequence[Node],
    here: str,
    eventstore: str | None,
    postgres: str | None,
    redis: str | None = None,
) -> None:
    """Check that parts on other nodes can reach the stores, and that nodes can reach each other.

    `here` is the address of our own node. The others are the given ones; a `redis` of None means
    that none is started here.

    Raises:
        StartError: they cannot.
    """
    elsewhere = [node.address for node in nodes if node.address != here]
    if not elsewhere:
        return
    others = ", ".join(elsewhere[:3]) + (", …" if len(elsewhere) > 3 else "")
    loopback = [node.address for node in nodes if is_loopback(node.address)]
    if loopback or is_loopback(here):
        raise StartError(
            f"Ray has a node on {here if is_loopback(here) else loopback[0]}, which others "
            f"({others}) do not reach: start Ray there with --node-ip-address"
        )
    asked = {"--eventstore": eventstore, "--postgres": postgres}
    if redis is not None:
        asked["--redis"] = None if redis == EMBEDDED else redis
    for option, given in asked.items():
        if given is None:
            raise StartError(
                f"Ray has nodes elsewhere ({others}), which do not reach what is started here: "
                f"give {option}"
            )
        local = [host for host in hosts_of(given) if not host or is_loopback(host)]
        if local:
            raise StartError(
                f"Ray has nodes elsewhere ({others}), which do not reach {local[0] or 'a socket'} "
                f"of this machine: give {option} with an address that they do"
            )


def hosts_of(url: str | None) -> list[str]:
    """Return the hosts of a URI, which may have several; an empty one stands for a socket."""
    if url is None:
        return []
    if "://" not in url:  # libpq's form: `host=… port=…`
        pairs = dict(word.split("=", 1) for word in url.split() if "=" in word)
        return pairs.get("host", "").split(",")
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    return [_host(each) for each in hosts]


def _host(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
