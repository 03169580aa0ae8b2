"""Connecting to a server, one node or a cluster, and the errors when it refuses.

It settles for all of our clients what the connection string leaves open: which calls go to the
leader and which to any node, nodes that gossip calls dead, and silent connections.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit
from uuid import UUID

import grpc
from kurrentdbclient import AsyncKurrentDBClient
from kurrentdbclient.client import BaseKurrentDBClient
from kurrentdbclient.connection import AsyncKurrentDBConnection
from kurrentdbclient.exceptions import (
    AbortedByServerError,
    AccessDeniedError,
    CancelledError,
    DiscoveryFailedError,
    FollowerNotFoundError,
    InternalError,
    KurrentDBClientError,
    NodeIsNotLeaderError,
    ReadOnlyReplicaNotFoundError,
    ServiceUnavailableError,
    SSLError,
    TransactionMaxSizeExceededError,
    UnauthenticatedError,
    UnknownError,
)
from kurrentdbclient.gossip import NODE_STATE_LEADER, BaseGossipService, ClusterMember
from kurrentdbclient.protos.v1 import gossip_pb2

from eventstore.errors import NoSuchPosition, StoreRefused, StoreUnavailable
from eventstore.kurrentdb.loopback import is_loopback

PING_AFTER, PONG_WITHIN = 5_000, 3_000
"""Milliseconds. A call may be silent for hours, so pings are needed to notice a vanished node."""

_RECONNECT = (
    # Else gRPC waits up to two minutes before it tries again to reach a node …
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # … and 20 s for the answer of a node that is away.
    ("grpc.min_reconnect_backoff_ms", 5_000),
)
_DISCOVERY = (("GossipTimeout", 2), ("MaxDiscoverAttempts", 2))
"""Seconds to wait for a silent node, and rounds through all nodes. The client's defaults are ten
rounds of 5 s, during which the caller cannot be cancelled. Our callers retry by themselves."""

_DISCOVER = "+discover"
_PREFERENCE = "nodepreference"

_STAYS = re.compile("CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|Hostname Verification")
"""TLS errors that will not pass by themselves."""

_PREFERRED = ("leader", "follower", "random", "readonlyreplica")

C = TypeVar("C")


class Reaching(BaseKurrentDBClient):
    """What our clients have in common; a base class after the client's own."""

    def __init__(self, uri: str | None = None, **certificates: Any) -> None:
        super().__init__(uri, **certificates)
        options = self.connection_spec.options
        self.grpc_options += _RECONNECT
        hosts = [each.rpartition(":")[0].strip("[]") for each in self.connection_spec.targets]
        if all(map(is_loopback, hosts)):
            # Else gRPC uses the environment's `http_proxy`, where the name may be another machine.
            self.grpc_options += (("grpc.enable_http_proxy", 0),)
        if options.keep_alive_interval is None:
            self.grpc_options += (("grpc.keepalive_time_ms", PING_AFTER),)
        if options.keep_alive_timeout is None:
            self.grpc_options += (
                ("grpc.keepalive_timeout_ms", PONG_WITHIN),
                ("grpc.http2.ping_timeout_ms", PONG_WITHIN),
            )

    def construct_call_credentials(
        self, username: str | None, password: str | None
    ) -> grpc.CallCredentials | None:
        """Return credentials; characters that are escaped in the URI (`p%40ss`) are decoded."""
        return super().construct_call_credentials(
            username and unquote(username), password and unquote(password)
        )

    def _select_preferred_member(self, cluster_members: Sequence[ClusterMember]) -> ClusterMember:
        """Select a member; readers who prefer a follower get the leader if there is no follower."""
        try:
            return super()._select_preferred_member(cluster_members)
        except (FollowerNotFoundError, ReadOnlyReplicaNotFoundError):
            leaders = [each for each in cluster_members if each.state == NODE_STATE_LEADER]
            if len(leaders) != 1:
                raise
            return leaders[0]


def without_the_dead(connection: C) -> C:
    """Make a connection's gossip leave out nodes that are not alive.

    The client ignores that field: it would see a dead leader beside the new one.
    """
    gossip: Any = connection.gossip  # type: ignore[attr-defined]

    def alive(cluster: gossip_pb2.ClusterInfo) -> Any:
        living = [member for member in cluster.members if member.is_alive]
        told = gossip_pb2.ClusterInfo(members=living)
        return BaseGossipService._construct_cluster_members(told)

    gossip._construct_cluster_members = alive
    return connection


class AsyncClient(AsyncKurrentDBClient, Reaching):
    """The asynchronous client, on these connections."""

    def _construct_esdb_connection(
        self, grpc_target: str, grpc_options: Any = ()
    ) -> AsyncKurrentDBConnection:
        return without_the_dead(super()._construct_esdb_connection(grpc_target, grpc_options))

    async def reconnect(
        self, grpc_target: str | None = None, connection_id: UUID | None = None
    ) -> None:
        """Connect again after a failure, unless the caller was cancelled."""
        if was_cancelled():
            raise asyncio.CancelledError
        await super().reconnect(grpc_target, connection_id)


def was_cancelled() -> bool:
    """Return whether the present task was cancelled, after a call that failed.

    If a call has already failed when its task is cancelled, `grpc.aio` raises only the failure
    (`UnaryUnaryCall._invoke`): code that then retries would do so for ever.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False  # in a thread
    return task is not None and task.cancelling() > 0


def is_cluster(uri: str) -> bool:
    """Return whether another node than the one called may be the leader."""
    scheme, _, rest = uri.partition("://")
    return "," in rest.partition("?")[0] or scheme.endswith(_DISCOVER)


def is_passing(error: BaseException) -> bool:
    """Return whether another node, or this one soon, will answer, as during an election.

    What was asked may have been done nevertheless.
    """
    if isinstance(error, TransactionMaxSizeExceededError | SSLError) or _STAYS.search(str(error)):
        return False
    if isinstance(error, UnknownError):
        return "No leader info" in str(error)
    if isinstance(error, InternalError):
        # gRPC's message for a connection that ended while a message was sent.
        return "Internal error from Core" in str(error)
    return isinstance(
        error,
        ServiceUnavailableError
        | NodeIsNotLeaderError
        | DiscoveryFailedError
        | AbortedByServerError
        | CancelledError,
    )


def for_leader(uri: str) -> str:
    """Return the connection string for appends, and for reads that must see the last of them."""
    return _rewritten(uri, leads=True)


def for_readers(uri: str) -> str:
    """Return the connection string for subscriptions, with the node preference of the URI."""
    return _rewritten(uri, leads=False)


def _rewritten(uri: str, *, leads: bool) -> str:
    """Return the URI rewritten so that all of several targets are asked: `+discover` takes one."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri  # the client reports what is wrong with it
    scheme = parts.scheme.removesuffix(_DISCOVER) if "," in parts.netloc else parts.scheme
    query = parts.query
    pairs = parse_qsl(query, keep_blank_values=True)
    if leads and _PREFERENCE in query.lower():
        query = urlencode([pair for pair in pairs if not _is_preference(*pair)])
    if is_cluster(uri):
        given = {name.lower() for name, _ in pairs}
        query += "".join(f"&{name}={n}" for name, n in _DISCOVERY if name.lower() not in given)
    return urlunsplit((scheme, parts.netloc, parts.path, query, ""))


def _is_preference(name: str, value: str) -> bool:
    return name.lower() == _PREFERENCE and value.lower() in _PREFERRED


def without_password(uri: str) -> str:
    """Return the connection string without the password, so that it may be printed.

    A password with an unescaped slash extends to the last @.
    """
    return re.sub(r"(://[^:/?#@]*):([^/?#]*|.*)@", r"\1:…@", uri)


def _user(uri: str) -> str:
    return unquote(urlsplit(uri).username or "")


_INVALID_POSITION = re.compile(r"\binvalid position\b|\bReadAllResult: InvalidPosition\b", re.I)
"""Servers' messages for a position that their log does not have, on subscribing and on reading."""


def refused(uri: str, error: BaseException) -> StoreUnavailable:
    """Return an error with the reason in one line: `StoreRefused` if it will not pass by itself.

    It is `NoSuchPosition` if the server says that its log does not have the position.

    Raises:
        CancelledError: the present task was cancelled; see `was_cancelled`.
    """
    if was_cancelled():
        raise asyncio.CancelledError from error
    name, said = type(error).__name__, f"{error}"
    if isinstance(error, grpc.Call | grpc.aio.AioRpcError):  # its text is long and repetitive
        code = error.code()
        name, said = code.name if code is not None else name, error.details() or ""
    text = without_password(" ".join(said.split()))
    if isinstance(error, UnauthenticatedError):
        return StoreRefused(f"it does not know user {_user(uri)!r} with this password")
    if isinstance(error, AccessDeniedError):
        return StoreRefused(f"user {_user(uri)!r} does not have the rights for this: {text}")
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return StoreRefused(f"cannot read {error.filename}: {error.strerror}")
    if isinstance(error, ValueError):
        return StoreRefused(text)
    if isinstance(error, grpc.RpcError | KurrentDBClientError) and _INVALID_POSITION.search(text):
        return NoSuchPosition()
    return StoreUnavailable(f"{name}: {text}")
