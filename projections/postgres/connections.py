"""Connections to Postgres: for a few statements, and the small pools of what fills it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import asyncpg

from projections.errors import PostgresUnavailable
from projections.postgres.generations import Connection
from projections.stores.runner import ProjectionRunner
from rayfold.runtime.postgres import FAILURES, connect, create_pool, left_as_it_is, why

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

SETTINGS = {"synchronous_commit": "off", "application_name": "rayfold"}
"""Rows and checkpoint are lost together, and folded again."""

TIMEOUT = 10.0
"""Seconds for a connection."""

LONGEST = 60.0
"""Seconds for a statement, also one that waits for a lock. A proxy may keep a connection whose
other end has vanished: then no answer comes, and nothing ends it.
"""


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """Return a connection for a few statements.

    Raises:
        PostgresUnavailable: it does not answer, or something is wrong with a statement.
    """
    try:
        connection = await connect(dsn, timeout=TIMEOUT)
    except (*FAILURES, ValueError) as error:
        raise PostgresUnavailable(f"Postgres does not answer: {why(error)}") from error
    try:
        yield connection
    except FAILURES as error:
        raise PostgresUnavailable(f"Postgres does not do it: {why(error)}") from error
    finally:
        connection.terminate()  # `close` would wait for a server that is silent


def pool(dsn: str, **options: Any) -> AbstractAsyncContextManager[Pool]:
    """Return a pool of connections that begins when it is entered; `options` go before ours.

    Where authors' statements run, `reset=None` has the driver take back what they have set.
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
    """Return a runner of what works with such a pool."""
    return ProjectionRunner(lambda: pool(dsn, **options))
