"""What these settings leave open to others than the owner, and what to change about it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from deploy.stack.reaching import hosts_of
from deploy.stack.settings import EMBEDDED, Settings
from eventstore.kurrentdb.connection import without_password
from eventstore.kurrentdb.loopback import is_loopback

_TLS_OF_POSTGRES = ("require", "verify-ca", "verify-full")


class Open(NamedTuple):
    """Something that others may do, and how to prevent it."""

    what: str
    change: str


def what_is_open(settings: Settings, environment: Mapping[str, str] = os.environ) -> list[Open]:
    """Return what a production stack with these settings would leave open."""
    return [
        *_gateway(settings),
        *_files(settings),
        *_eventstore(settings.eventstore),
        *(each for dsn in _databases(settings) for each in _postgres(dsn)),
        *_redis(settings.redis),
        *_ray(settings, environment),
    ]


def _gateway(settings: Settings) -> Iterator[Open]:
    if settings.is_open:
        yield Open(
            f"whoever reaches {settings.host}:{settings.port} can send commands and read all",
            "set [tokens.NAME] or [jwt]",
        )
    if not settings.rates:
        yield Open("a caller may send as much as it likes", "set [rates], with a default")
    if not settings.is_open and not is_loopback(settings.host):
        yield Open(
            f"tokens travel in the clear to {settings.host}:{settings.port}",
            "let a proxy end TLS, and listen where it alone reaches the gateway",
        )


def _files(settings: Settings) -> Iterator[Open]:
    for path, counts in ((Path("rayfold.toml"), _has_secrets(settings)), (settings.data, True)):
        # Permission to pass is not permission to read.
        if counts and path.exists() and path.stat().st_mode & 0o066:
            yield Open(f"others on this machine may read {path}", f"chmod go-rwx {path}")


def _has_secrets(settings: Settings) -> bool:
    addresses = [settings.eventstore, settings.redis, *_databases(settings)]
    addresses += settings.stores.values()
    return (
        bool(settings.tokens or settings.publications)
        or settings.token is not None
        or any(_has_password(each) for each in addresses if each is not None)
    )


def _has_password(address: str) -> bool:
    return without_password(address) != address or "password=" in address


def _eventstore(uri: str | None) -> Iterator[Open]:
    if uri is None or all(map(is_loopback, hosts_of(uri))):
        return
    parts = urlsplit(uri)
    if parse_qs(parts.query.lower()).get("tls", ["true"])[-1] == "false":
        yield Open("events travel in the clear to the event store", "drop tls=false in its URI")
    if not parts.username:
        yield Open(
            "the event store does not authenticate clients", "give its URI a user and a password"
        )


def _databases(settings: Settings) -> Iterator[str]:
    if settings.postgres is not None:
        yield settings.postgres
    yield from settings.postgres_reads


def _postgres(dsn: str) -> Iterator[Open]:
    hosts = [host for host in hosts_of(dsn) if host and not is_loopback(host)]
    if not hosts:
        return
    said = parse_qs(urlsplit(dsn).query) if "://" in dsn else parse_qs("&".join(dsn.split()))
    mode = said.get("sslmode", [""])[-1]
    if mode not in _TLS_OF_POSTGRES:
        yield Open(
            f"rows may travel in the clear to Postgres at {hosts[0]}",
            "give its DSN sslmode=verify-full",
        )


def _redis(url: str | None) -> Iterator[Open]:
    if url is None or url == EMBEDDED or url.startswith("unix:"):
        return
    hosts = [host for host in hosts_of(url) if host and not is_loopback(host)]
    if not hosts:
        return
    if not url.startswith("rediss:"):
        yield Open(f"rows travel in the clear to Redis at {hosts[0]}", "give its URL rediss://")
    if urlsplit(url).password is None:
        yield Open("Redis does not authenticate clients", "give its URL a user and a password")


def _ray(settings: Settings, environment: Mapping[str, str]) -> Iterator[Open]:
    if settings.ray_address is None:
        return
    if environment.get("RAY_AUTH_MODE") != "token":
        yield Open(
            "whoever reaches Ray's ports can run code on its nodes",
            "start its nodes, and Rayfold, with RAY_AUTH_MODE=token and one RAY_AUTH_TOKEN",
        )
    if "RAYFOLD_RPC_PORTS" not in environment:
        yield Open(
            "hosts and replicas take calls on any port, so no firewall can name them",
            "set RAYFOLD_RPC_PORTS on every node, and open that range to the nodes alone",
        )
