"""Redis for the views that name it: embedded, given, or none."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deploy.errors import StartError
from deploy.stack.display import Display
from deploy.stack.probe import Probe
from deploy.stack.servers import watched
from deploy.stack.settings import EMBEDDED, Settings
from deploy.stack.starting import ANSWER_TIMEOUT, why_no_answer
from eventstore.kurrentdb.connection import without_password
from rayfold import Registry

if TYPE_CHECKING:  # importing Redis' client takes 0.1 s, and not every stack needs it
    from deploy.stack.redis_process import RedisQuestion

log = logging.getLogger(__name__)

STORE = "redis"
"""The name that views use."""

PROGRAMS = ("redis-server", "valkey-server")
"""The programs of a server; the first that is installed is used."""


class RedisServer(NamedTuple):
    """The address of Redis, and whether it answers; `url` is empty if there is none."""

    url: str = ""
    probes: Sequence[Probe] = ()


async def start_redis(
    settings: Settings, registry: Registry, data: Path, parts: AsyncExitStack, display: Display
) -> RedisServer:
    """Return the given Redis; without one, start one if a view is to be kept there.

    If none can be started, a view that names other stores too is only kept in those.

    Raises:
        StartError: it does not answer or is unsuitable, the requested one is not installed, or a
            view has no other store.
    """
    named = {
        each.name: len(stores) == 1
        for each in registry.views.values()
        if STORE in (stores := list[str](each.stores))
    }
    url = settings.redis
    if url is None:
        # On a cluster, other nodes could not reach it, so it must be requested.
        program = installed() if named and settings.ray_address is None else None
        if program is None:
            _check_named(named)
            return RedisServer()
    elif url == EMBEDDED:
        program = installed()
        if program is None:
            raise StartError(
                f"--redis embedded needs {' or '.join(PROGRAMS)}, and neither is installed:"
                " Debian has them as packages; or give the URL of a server"
            )
    else:
        program = None
    from deploy.stack.redis_process import RedisProcess

    with display.part(STORE):
        process: RedisProcess | None = None
        if program is not None:
            process = RedisProcess(data / STORE, program)
            parts.push_async_callback(process.stop)
            url = await process.start()
        assert url is not None
        asking = await _checked(url, parts)
    return RedisServer(url, [watched(STORE, asking, process, parts)])


def installed() -> str | None:
    """Return the path of an installed server program, None if there is none."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


def _check_named(named: dict[str, bool]) -> None:
    """Raise if a view would not be kept anywhere; otherwise warn of those that lack a store."""
    if alone := [name for name, is_alone in named.items() if is_alone]:
        raise StartError(
            f"the view {alone[0]!r} is kept in Redis alone, but there is no Redis: install"
            f" {PROGRAMS[0]} where `rayfold up` runs, or give --redis"
        )
    if named:
        log.warning(
            "there is no Redis: its views use their other stores", extra={"views": [*named]}
        )


async def _checked(url: str, parts: AsyncExitStack) -> RedisQuestion:
    from redis.exceptions import RedisError

    from deploy.stack.redis_process import RedisQuestion

    shown = without_password(url.partition("?")[0])
    try:
        asking = RedisQuestion(url)
    except ValueError as error:
        raise StartError(f"--redis is not the URL of a Redis server: {error}") from error
    parts.push_async_callback(asking.close)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            wrong = await asking()
    except (RedisError, OSError, TimeoutError) as error:
        raise StartError(
            f"Redis at {shown} does not answer: {why_no_answer(error)}: check --redis"
        ) from error
    if wrong is not None:
        raise StartError(f"Redis at {shown} cannot store views: {wrong}")
    return asking
