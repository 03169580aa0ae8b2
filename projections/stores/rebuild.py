"""Building a new generation beside the live one, up to the switch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from eventstore.folded_log import FoldedLog
from projections.errors import ActorUnavailable, ProjectionError
from projections.operations.rebuild import Rebuild
from projections.stores.port import Reached
from projections.supervision.actor_handle import READY, ActorHandle, answering

log = logging.getLogger(__name__)

SWITCH = 30.0
"""Seconds in which a build must reach the live one, while that one waits."""

STUCK = 30.0
"""Seconds after which a build that only reports errors is given up."""


class Building(Protocol):
    """A generation that is being built, of a view or of a SQL projection: see `Generations`."""

    async def finish(self) -> int:
        """Do what is quicker on a full generation; return how far the live one is then."""
        ...

    async def put_back(self, position: int) -> None:
        """Let the live one have come to this position only, wherever it is further."""
        ...

    async def switch(self, reached: Reached) -> None:
        """Put it in the live one's place."""
        ...

    async def discard(self) -> None:
        """Remove it, unless it is live."""
        ...


async def build(
    building: Building,
    builder: ActorHandle,
    rebuild: Rebuild,
    changing: asyncio.Lock,
    folded: FoldedLog,
    following: Sequence[ActorHandle] = (),
) -> None:
    """Wait until `builder` has filled a generation, and switch. Either way the builder ends.

    `following` fill the live one, and are told that there is another. `changing` is held while
    switching. Where the log was restored to an earlier moment, so that it does not have what the
    live one has come to, the build need not come as far.

    Raises:
        ProjectionError: not done; the live one is as it was.
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
        furthest = await building.finish()
        there = await folded.has(furthest)
        if there:
            # What came while it was finished: before the live one has to wait for it.
            await builder.reached(furthest, time.monotonic() + READY)
        rebuild.state = "switching"

        async def reached(position: int) -> bool:
            return await builder.reached(position, time.monotonic() + SWITCH)

        async with changing:
            if not there:  # at the last moment: until now its projectors do not go on
                why = {"view": rebuild.view, "position": furthest}
                log.warning("rows are replaced that the log has lost", extra=why)
                await building.put_back(builder.progress.position)
            await building.switch(reached)
            await asyncio.gather(*(_renew(each) for each in following))
    finally:
        await builder.end()
        await building.discard()


async def _renew(actor: ActorHandle) -> None:
    try:
        await actor.renew()
    except ActorUnavailable as error:  # it finds out by itself, with the next event
        log.info("an actor was not renewed", extra={"actor": actor.name, "error": error})
