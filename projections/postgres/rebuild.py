"""Building a new generation beside the live one, up to the switch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from projections.errors import ActorUnavailable, PostgresUnavailable, ProjectionError
from projections.operations.rebuild import Rebuild
from projections.postgres import generations
from projections.postgres.generations import Connection, Live
from projections.supervision.actor_handle import READY, ActorHandle, answering
from rayfold.runtime.postgres import FAILURES, connect

log = logging.getLogger(__name__)

SWITCH = 30.0
"""Seconds in which a build must reach the live one, while that one waits."""

STUCK = 30.0
"""Seconds after which a build that only reports errors is given up."""

Finish: TypeAlias = Callable[[Connection], Awaitable[None]]
Hold: TypeAlias = Callable[[Connection], Awaitable[int]]


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """Return a connection for a few statements.

    Raises:
        PostgresUnavailable: it does not answer, or something is wrong with a statement.
    """
    try:
        connection = await connect(dsn, timeout=10)
    except (*FAILURES, ValueError) as error:
        raise PostgresUnavailable(f"Postgres does not answer: {error}") from error
    try:
        yield connection
    except FAILURES as error:
        raise PostgresUnavailable(f"Postgres says: {error}") from error
    finally:
        await connection.close()


async def build(
    dsn: str,
    live: Live,
    built: str,
    builder: ActorHandle,
    rebuild: Rebuild,
    changing: asyncio.Lock,
    *,
    following: Sequence[ActorHandle] = (),
    finish: Finish | None = None,
    hold: Hold | None = None,
) -> None:
    """Wait until `builder` has filled `built`, and switch. Either way the builder ends.

    `following` fill the live one, and are told that there is another. `finish` does what is
    quicker on full tables. `changing` is held while switching. For `hold` see
    `generations.switch`.

    Raises:
        ProjectionError, PostgresUnavailable: not done; the live one is as it was.
    """
    try:
        await answering([builder])
        moved = time.monotonic()
        while not builder.ready:
            await asyncio.sleep(0.2)
            await builder.look()
            position, events = builder.progress.position, builder.seen.get("events", 0)
            if (position, events) != (rebuild.position, rebuild.events):
                moved = time.monotonic()
            rebuild.moved(position, events)
            if "error" in builder.seen and time.monotonic() - moved > STUCK:
                raise ProjectionError(f"the build does not go on: {builder.seen['error']}")
        if "stopped" in builder.seen:
            raise ProjectionError(f"the build stopped: {builder.seen['stopped']}")
        async with connected(dsn) as connection:
            if finish is not None:
                await finish(connection)
            furthest = await generations.position_of(connection, live.relation)
        # What came while it was finished: before the live one has to wait for it.
        await builder.reached(furthest, time.monotonic() + READY)
        rebuild.state = "switching"

        async def reached(position: int) -> bool:
            return await builder.reached(position, time.monotonic() + SWITCH)

        async with changing, connected(dsn) as connection:
            holding = None if hold is None else lambda: hold(connection)
            await generations.switch(connection, live, built, reached, hold=holding)
            await asyncio.gather(*(_renew(each) for each in following))
    finally:
        await builder.end()
        async with connected(dsn) as connection:
            await generations.discard(connection, built, live.kind)


async def _renew(actor: ActorHandle) -> None:
    try:
        await actor.renew()
    except ActorUnavailable as error:  # it finds out by itself, with the next event
        log.info("an actor was not renewed", extra={"actor": actor.name, "error": error})
