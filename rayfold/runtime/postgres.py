"""Connections to Postgres in production: behind a pooler, during a failover, or gone silent.

A pooler in transaction mode may give each transaction another session. Then nothing may outlive a
transaction: no prepared statement, no setting, no session-level advisory lock. The first connection
finds out whether there is a pooler.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
from asyncpg.transaction import Transaction

log = logging.getLogger(__name__)

FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # also: none of several hosts fits `target_session_attrs`
    OSError,  # also: an untrusted certificate
    TimeoutError,
)
"""Errors which mean that Postgres does not answer."""

SILENCE = 15
"""Seconds without a TCP acknowledgement after which a server counts as gone, instead of minutes."""

CANCELLING = 5.0
"""Seconds that a server has to receive the request to cancel a statement, and to cancel it."""

_THE_SAME_OF_US = {
    "tcp_keepalives_idle": str(SILENCE // 3),
    "tcp_keepalives_interval": str(SILENCE // 3),
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": str(SILENCE * 1000),
}
"""Settings by which the server soon ends the sessions of a vanished machine. By default it takes
two hours, and after some lost nodes the server would have no connections left."""

_ISOLATION = "read committed"
"""The isolation level of all transactions that ask for no other, whatever the server's default:
after waiting for a lock, a transaction sees what was written under it. A stricter level would make
every switch of generations fail, because a switch waits for a build.
"""

BY_INDEX = {"enable_seqscan": "off"}
"""A setting for statements that read many rows by key (`ANY`) from a growing table.

After some runs Postgres keeps a statement's plan. If it was made while the table was small, it is a
sequential scan of the whole table, until autovacuum analyzes the grown table. Through a pooler,
every run is planned anew.
"""

_MARK = "rayfold.session"
"""A connection parameter that a server accepts and keeps, and a pooler refuses or forgets."""

_WORDS = re.compile(r"[\w ,/()$#-]*")
"""The beginning of a message, up to a value: in every language, a value is quoted or at the end."""

_OUT_OF_RANGE = re.compile(r'value ".*" (is out of range for type [\w ]+)', re.DOTALL)
"""A message that continues after its value, with the type."""

_pooled: set[str] = set()


if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection


class _OpenTransaction(Transaction):
    """A transaction that always lets a cancellation through.

    The rollback may fail, for instance because the connection was lost. If that error replaced the
    cancellation, callers would take it for one of `FAILURES` and try again instead of ending.
    """

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except FAILURES:
            if not isinstance(error, asyncio.CancelledError):
                raise
            self._connection.terminate()  # type: ignore[attr-defined]


class Connection(_Connection):
    """A connection that leaves nothing in its session if `pooled`; otherwise an ordinary one.

    The driver's own part of that is `statement_cache_size=0`: statements are then unnamed, and are
    sent together with their arguments.
    """

    pooled = False
    _loop: asyncio.AbstractEventLoop

    def terminate(self) -> None:
        """End the connection at once, in the thread of its loop.

        The garbage collector ends an unclosed connection in any thread; and if another thread ends
        a transport while the loop reads from it, the process crashes.
        """
        if self._loop.is_running() and asyncio._get_running_loop() is not self._loop:
            self._loop.call_soon_threadsafe(super().terminate)
        else:
            super().terminate()

    def transaction(
        self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """Return a transaction for `async with`; see asyncpg and `_ISOLATION`."""
        self._check_open()  # type: ignore[attr-defined]
        if isolation is None and self._top_xact is None:  # type: ignore[attr-defined]
            isolation = _ISOLATION.replace(" ", "_")  # a pooler accepts no setting
        return _OpenTransaction(self, isolation, readonly, deferrable)

    async def _cancel(self, *waiters: Any) -> None:
        """Ask the server to cancel a statement whose caller was cancelled; wait for `CANCELLING`.

        The driver, and with it the cancelled caller, waits until the server has done so. A server
        that takes longer loses the session.
        """
        async with asyncio.timeout(CANCELLING) as limit:
            await super()._cancel(*waiters)  # type: ignore[misc]  # it swallows a cancellation
        if limit.expired():
            self.terminate()

    def get_reset_query(self) -> str:
        """Return nothing behind a pooler: the next transaction has another session anyway."""
        return "" if self.pooled else super().get_reset_query()

    def _get_unique_id(self, prefix: str) -> str:
        """Return a name for a statement, as COPY needs one: unique among all processes, since they
        share a pooler's sessions."""
        if not self.pooled:
            return str(super()._get_unique_id(prefix))  # type: ignore[misc]
        return f"_{prefix}_{uuid4().hex}"


async def connect(dsn: str, **options: Any) -> Connection:
    """Connect as `asyncpg.connect` does, with or without a pooler; a pooler is logged once.

    Raises:
        FAILURES: no connection, or the DSN is invalid.
    """
    options = {"connection_class": Connection, **options}
    if dsn in _pooled:
        return await _pooled_connection(dsn, options)
    settings = {
        _MARK: "1",
        "default_transaction_isolation": _ISOLATION,
        **_THE_SAME_OF_US,
        **(options.get("server_settings") or {}),
    }
    try:
        connection = await _open(dsn, options | {"server_settings": settings})
    except asyncpg.PostgresError as error:
        if not _is_about_settings(error):
            raise
        connection = await _pooled_connection(dsn, options)
    else:
        try:
            # Unnamed, since it is not known yet whether the session is kept.
            async with connection.transaction():
                mark = await connection.prepare(f"SELECT current_setting('{_MARK}', true)", name="")
                if await mark.fetchval() == "1":
                    return connection
        except BaseException:
            connection.terminate()
            raise
        connection.terminate()
        connection = await _pooled_connection(dsn, options)
    _pooled.add(dsn)
    log.warning(
        "a pooler answers for Postgres, so statements are not prepared and no setting of the"
        " session is changed; projections are as fast as without a pooler if the role has the"
        " setting: ALTER ROLE … SET synchronous_commit = off",
    )
    return connection


@asynccontextmanager
async def connected(
    dsn: str, *, within: float | None = None, **options: Any
) -> AsyncIterator[Connection]:
    """Yield a connection for a few statements; it is ended on exit.

    It is made `within` so many seconds; `options` are those of `connect`.

    Raises:
        FAILURES: see `connect`.
    """
    async with asyncio.timeout(within):
        connection = await connect(dsn, **options)
    try:
        yield connection
    finally:
        connection.terminate()  # `close` would wait for a silent server


class LastingConnection:
    """One connection, which is made again when it has ended."""

    def __init__(
        self,
        dsn: str,
        on_connect: Callable[[Connection], Awaitable[None]] | None = None,
        **options: Any,
    ) -> None:
        """`on_connect` is called with each new connection; `options` are those of `connect`."""
        self._dsn = dsn
        self._on_connect = on_connect
        self._options = options
        self._connection: Connection | None = None

    async def get(self) -> Connection:
        """Return it.

        Raises:
            FAILURES: see `connect`.
        """
        if self._connection is None or self._connection.is_closed():
            connection = await connect(self._dsn, **self._options)
            try:
                if self._on_connect is not None:
                    await self._on_connect(connection)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """End the connection at once; the next `get` makes another."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def why(error: BaseException) -> str:
    """Return in one line, without values, why Postgres does not answer or what it refuses.

    The further lines of a message are its detail, which has values of the row or of a key. A
    timeout has no message of its own.
    """
    if _is_about_values(error):
        found = _OUT_OF_RANGE.fullmatch(str(getattr(error, "message", None) or error))
        said = f"value {found[1]}" if found else _words(error)
        cause = error.__cause__  # as `value out of int64 range`
        if isinstance(cause, TypeError):
            said += f" ({cause})"
        elif cause is not None and str(cause) != str(error):
            said += f" ({_words(cause) or type(cause).__name__})"
    else:
        said = str(error).partition("\n")[0]
    if said:
        return said
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def _is_about_values(error: BaseException) -> bool:
    """Return whether the message has the wrong value; the error may also be the driver's."""
    if isinstance(error, asyncpg.InterfaceError):
        of_settings = isinstance(error, asyncpg.ClientConfigurationError)
        encoding = isinstance(error, ValueError) or str(error).startswith("query argument")
        return encoding and not of_settings
    return str(getattr(error, "sqlstate", "")).startswith("22")


def _words(error: BaseException) -> str:
    found = _WORDS.match(str(error).partition("\n")[0])
    return found[0].strip() if found else ""


def is_pooled(dsn: str) -> bool:
    """Return whether a pooler has answered this process under that DSN."""
    return dsn in _pooled


def _is_about_settings(error: asyncpg.PostgresError) -> bool:
    """Return whether a pooler refuses a parameter, as opposed to a server that refuses the user."""
    refused = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)
    text = str(error).lower()
    return not isinstance(error, refused) and ("parameter" in text or "option" in text)


async def _pooled_connection(dsn: str, options: dict[str, Any]) -> Connection:
    options = {name: value for name, value in options.items() if name != "server_settings"}
    connection = await _open(dsn, options | {"statement_cache_size": 0})
    connection.pooled = True
    return connection


async def _open(dsn: str, options: dict[str, Any]) -> Connection:
    try:
        opened: Any = await asyncpg.connect(dsn, **options)
    except TimeoutError as error:  # less to write at a time would not help, as where one answers
        raise ConnectionError("no connection in time") from error
    except (ValueError, OverflowError) as error:
        # For some mistakes in a DSN, the driver and Python raise other errors.
        raise asyncpg.exceptions.ClientConfigurationError(str(error)) from error
    _give_up_on_silence(opened)
    connection: Connection = opened
    return connection


def _give_up_on_silence(connection: Connection) -> None:
    """Have the kernel end a connection whose other end has vanished."""
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", SILENCE // 3),
        ("TCP_KEEPINTVL", SILENCE // 3),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", SILENCE * 1000),
    ):
        if hasattr(socket, name):  # not every system has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def left_as_it_is(_: Any) -> None:
    """Do nothing when a session returns to its pool (`reset`), where only our statements run.

    They leave nothing in the session, and the driver would send four more statements each time and
    wait for them.
    """


def create_pool(dsn: str, **options: Any) -> asyncpg.Pool[asyncpg.Record]:
    """Return an `asyncpg.create_pool` of these connections."""
    make: Any = asyncpg.create_pool
    pool: asyncpg.Pool[asyncpg.Record] = make(
        dsn, connect=connect, connection_class=Connection, **options
    )
    return pool
