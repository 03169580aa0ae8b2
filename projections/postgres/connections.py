"""Connections to Postgres: for a few statements, and small pools for what fills it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from projections.errors import PostgresUnavailable
from projections.poison import is_too_long
from projections.postgres.generations import Connection
from projections.stores.runner import ProjectionRunner
from rayfold.runtime.postgres import FAILURES, connect, create_pool, left_as_it_is, why

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

SETTINGS = {"synchronous_commit": "off", "application_name": "rayfold"}
"""In a crash, rows and checkpoint are lost together, and folded again."""

TIMEOUT = 10.0
"""Seconds that connecting may take."""

LONGEST = 60.0
"""Seconds that a statement may take, including lock waits. A proxy may keep a connection whose
other end has vanished: without this limit, the statement would never end.
"""


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """Return a connection for a few statements.

    Raises:
        PostgresUnavailable: Postgres does not answer, or a statement is wrong.
    """
    try:
        connection = await connect(dsn, timeout=TIMEOUT)
    except (*FAILURES, ValueError) as error:
        raise PostgresUnavailable(f"Postgres does not answer: {why(error)}") from error
    try:
        yield connection
    except FAILURES as error:
        raise PostgresUnavailable(f"Postgres reports an error: {why(error)}") from error
    finally:
        connection.terminate()  # `close` would wait for a server that does not respond


async def is_batch_too_long(
    error: BaseException, connecting: Callable[[], AbstractAsyncContextManager[Any]]
) -> bool:
    """Return whether a smaller batch may succeed: see `poison.is_too_long`.

    An answer that did not come in time says nothing about the batch where none comes to anything:
    the server is stopped, or its disk or the network to it stands still. So something small is
    written on a connection of `connecting`, as far as the server's own disk.
    """
    if not is_too_long(error):
        return False
    try:
        async with asyncio.timeout(TIMEOUT), connecting() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = local")
            await connection.execute("SELECT pg_logical_emit_message(true, 'rayfold', '')")
    except (*FAILURES, PostgresUnavailable):
        return False
    return True


def pool(dsn: str, **options: Any) -> AbstractAsyncContextManager[Pool]:
    """Return a pool of connections that opens when it is entered; `options` override ours.

    If the domain's statements run on it, `reset=None` makes the driver undo their settings.
    """
    ours: dict[str, Any] = {
        "min_size": 1,
        "max_size": 1,
        "timeout": TIMEOUT,
        "command_timeout": LONGEST,
        "server_settings": SETTINGS,
        "reset": left_as_it_is,
    }
    return create_pool(dsn, **(ours | options))


def pooled(dsn: str, **options: Any) -> ProjectionRunner[Pool]:
    """Return a runner for work that uses such a pool."""
    return ProjectionRunner(lambda: pool(dsn, **options))
