"""Connections to Postgres in production: behind a pooler, across a failover, without an answer.

A pooler in transaction mode gives each transaction another session. Nothing may outlive one
then: no prepared statement, no setting, no advisory lock of the session. What it is that
answers is found out with the first connection.
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
    asyncpg.InternalClientError,  # also: none of several hosts is what `target_session_attrs` asks
    OSError,  # also: a certificate that is not to be trusted
    TimeoutError,
)
"""What keeps Postgres from answering."""

SILENCE = 15
"""Seconds after which a server that confirms nothing counts as gone; else it takes minutes."""

CANCELLING = 5.0
"""Seconds for a server to take the request to give a statement up, and to do so."""

_THE_SAME_OF_US = {
    "tcp_keepalives_idle": str(SILENCE // 3),
    "tcp_keepalives_interval": str(SILENCE // 3),
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": str(SILENCE * 1000),
}
"""Settings by which the server ends sessions of a machine that vanished, not after its two hours:
else some lost nodes later it has no connection left for anybody."""

_ISOLATION = "read committed"
"""Of all that asks for no other, whatever administrators have made the default: who has waited for
a lock sees what was written under it. Stricter ones refuse a switch of generations each time, as it
waits for a build.
"""

BY_INDEX = {"enable_seqscan": "off"}
"""A setting for whoever asks for many rows by their keys (`ANY`), in tables that grow.

A statement is planned for good after some runs, when its table is small: Postgres reads the whole
for it then, as the table grows, until autovacuum analyzes that. Through a pooler each is planned
each time.
"""

_MARK = "rayfold.session"
"""A setting that a server takes from whoever connects, and a pooler refuses or forgets."""

_WORDS = re.compile(r"[\w ,/()$#-]*")
"""What a message begins with, up to a value: in each language values are in quotes, or end it."""

_OUT_OF_RANGE = re.compile(r'value ".*" (is out of range for type [\w ]+)', re.DOTALL)
"""One that goes on behind its value, with the type."""

_pooled: set[str] = set()


if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection


class _OpenTransaction(Transaction):
    """A transaction from which a cancellation always comes out.

    To roll back may fail, as where the connection was lost meanwhile. That error in its place
    would be taken for one of `FAILURES`, after which whoever was told to end tries again.
    """

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        except FAILURES:
            if not isinstance(error, asyncio.CancelledError):
                raise
            self._connection.terminate()  # type: ignore[attr-defined]


class Connection(_Connection):
    """A connection that leaves nothing in a session, if `pooled`; else as it always was.

    The driver's own part of it is `statement_cache_size=0`: then statements have no name, and
    travel together with what they are executed with.
    """

    pooled = False
    _loop: asyncio.AbstractEventLoop

    def terminate(self) -> None:
        """End it at once, in its loop's thread.

        One that nobody closed is ended by the collector, in whatever thread that runs; and a
        transport that another thread ends while the loop reads from it takes the process along.
        """
        if self._loop.is_running() and asyncio._get_running_loop() is not self._loop:
            self._loop.call_soon_threadsafe(super().terminate)
        else:
            super().terminate()

    def transaction(
        self, *, isolation: Any = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """Return one for `async with`; see the driver, and `_ISOLATION`."""
        self._check_open()  # type: ignore[attr-defined]
        if isolation is None and self._top_xact is None:  # type: ignore[attr-defined]
            isolation = _ISOLATION.replace(" ", "_")  # a pooler takes no setting
        return _OpenTransaction(self, isolation, readonly, deferrable)

    async def _cancel(self, *waiters: Any) -> None:
        """Ask the server to give up a statement whose caller was cancelled; not for ever.

        The driver waits until the server has, and whoever was cancelled with it; one that takes
        longer loses the session.
        """
        async with asyncio.timeout(CANCELLING) as limit:
            await super()._cancel(*waiters)  # type: ignore[misc]  # it swallows a cancellation
        if limit.expired():
            self.terminate()

    def get_reset_query(self) -> str:
        """Return nothing for a pooler: the next session is another one anyway."""
        return "" if self.pooled else super().get_reset_query()

    def _get_unique_id(self, prefix: str) -> str:
        """Return a statement's name, where COPY needs one: those of all processes meet there."""
        if not self.pooled:
            return str(super()._get_unique_id(prefix))  # type: ignore[misc]
        return f"_{prefix}_{uuid4().hex}"


async def connect(dsn: str, **options: Any) -> Connection:
    """As `asyncpg.connect`, to whatever is there; a pooler is told to operators, once.

    Raises:
        FAILURES: no connection; also for what is no DSN.
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
            # No statement with a name before it is known that there is a session to keep it in.
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
        "a pooler answers for Postgres: no statement is kept prepared, and nothing is set;"
        " ALTER ROLE … SET synchronous_commit = off, if projections are to be as quick as without",
    )
    return connection


@asynccontextmanager
async def connected(
    dsn: str, *, within: float | None = None, **options: Any
) -> AsyncIterator[Connection]:
    """Return a connection for a few statements, ended at once behind them.

    It is there `within` so many seconds; `options` are those of `connect`.

    Raises:
        FAILURES: see `connect`.
    """
    async with asyncio.timeout(within):
        connection = await connect(dsn, **options)
    try:
        yield connection
    finally:
        connection.terminate()  # `close` would wait for a server that is silent


class LastingConnection:
    """One connection at a time, made again where it has ended."""

    def __init__(
        self,
        dsn: str,
        on_connect: Callable[[Connection], Awaitable[None]] | None = None,
        **options: Any,
    ) -> None:
        """`on_connect` is done with each new one; `options` are those of `connect`."""
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
        """End it at once; the next `get` makes another."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def why(error: BaseException) -> str:
    """Return what keeps Postgres from answering, or what it refuses, in a line without values.

    What follows the line is its detail, which has the row's values, or a key's. A timeout says
    nothing of itself.
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
    """Tell an error whose message has the value that is wrong, also one the driver has found."""
    if isinstance(error, asyncpg.InterfaceError):
        of_settings = isinstance(error, asyncpg.ClientConfigurationError)
        encoding = isinstance(error, ValueError) or str(error).startswith("query argument")
        return encoding and not of_settings
    return str(getattr(error, "sqlstate", "")).startswith("22")


def _words(error: BaseException) -> str:
    found = _WORDS.match(str(error).partition("\n")[0])
    return found[0].strip() if found else ""


def is_pooled(dsn: str) -> bool:
    """Tell whether a pooler has answered this process under that DSN."""
    return dsn in _pooled


def _is_about_settings(error: asyncpg.PostgresError) -> bool:
    """Tell a pooler that refuses a parameter from a server that refuses the user."""
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
        # Some of what may be wrong with a DSN the driver, and Python, say in words of their own.
        raise asyncpg.exceptions.ClientConfigurationError(str(error)) from error
    _give_up_on_silence(opened)
    connection: Connection = opened
    return connection


def _give_up_on_silence(connection: Connection) -> None:
    """Have the kernel end a connection whose other end vanished without a word."""
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
        if hasattr(socket, name):  # not each system has all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def left_as_it_is(_: Any) -> None:
    """Do nothing with a session that goes back to its pool (`reset`): for statements of ours alone.

    They leave nothing there, and the driver would send four more each time, and wait for them.
    """


def create_pool(dsn: str, **options: Any) -> asyncpg.Pool[asyncpg.Record]:
    """As `asyncpg.create_pool`, of such connections."""
    make: Any = asyncpg.create_pool
    pool: asyncpg.Pool[asyncpg.Record] = make(
        dsn, connect=connect, connection_class=Connection, **options
    )
    return pool
