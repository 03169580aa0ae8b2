"""What fills Postgres works with a small pool of connections: see `ProjectionRunner`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import asyncpg

from projections.stores.runner import ProjectionRunner
from rayfold.runtime.postgres import create_pool

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

SETTINGS = {"synchronous_commit": "off", "application_name": "rayfold"}
"""Rows and checkpoint are lost together, and folded again."""

_POOL: dict[str, Any] = {"min_size": 1, "max_size": 1, "server_settings": SETTINGS}


def pool(dsn: str, **options: Any) -> AbstractAsyncContextManager[Pool]:
    """Return a pool of connections that begins when it is entered; `options` go before ours."""
    return create_pool(dsn, **(_POOL | options))


def pooled(dsn: str, **options: Any) -> ProjectionRunner[Pool]:
    """Return a runner of what works with such a pool."""
    return ProjectionRunner(lambda: pool(dsn, **options))
