"""Building a new generation beside the live one, up to the switch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from eventstore.folded_log import FoldedLog
from projections.errors import ActorUnavailable, ProjectionError, WouldPark, named
from projections.newly_parked import NewlyParked, would_park
from projections.operations.rebuild import Rebuild
from projections.stores.port import Reached
from projections.supervision.actor_handle import READY, ActorHandle, answering
from projections.supervision.progress import Progress

log = logging.getLogger(__name__)

SWITCH = 30.0
"""Seconds in which a build must reach the live one, while that one waits."""

PATIENCE = 5.0
"""Seconds in which the node that says where the log ends may lag: it was no leader until now."""

STUCK = 30.0
"""Seconds after which a build that only reports errors is given up."""


class Building(Protocol):
    """A generation that is being built, of a view or of a SQL projection: see `Generations`."""

    async def newly_parked(self) -> NewlyParked | None:
        """Return what is parked in it, and not in the live one."""
        ...

    async def finish(self) -> int:
        """Do what is quicker on a full generation; return how far the live one is then."""
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
    live one has come to, the build has to have all of the log.

    Raises:
        WouldPark: it serves less than the live one does, which is as it was.
        ProjectionError: not done; the live one is as it was.
    """
    try:
        await answering([builder])
        await _filled(builder, rebuild)
        worse = await _worse(building, rebuild)
        furthest = await building.finish()
        # What came while it was finished: before the live one has to wait for it.
        is_lost = not await reaches(builder, furthest, folded)
        if is_lost:
            why = {"view": rebuild.view, "position": furthest}
            log.warning("rows are replaced of which the log has less", extra=why)
        if worse is None and not is_lost:
            worse = await _worse(building, rebuild)  # on what has come meanwhile

        async def enough_that_serves(position: int) -> int | None:
            there = await enough(builder, folded if is_lost else None, position)
            if there is None:
                return None
            await builder.look()
            # Writers wait meanwhile, so nothing is compared where nothing is parked, or where it
            # would change nothing. What is may be what the live one folded since it was asked last.
            # Not every builder counts it.
            is_asked = not rebuild.accept_parked and not is_lost
            if is_asked and builder.seen.get("parked") != 0:
                await _worse(building, rebuild)
            return there

        rebuild.state = "switching"
        async with changing:
            await building.switch(enough_that_serves)
            if worse is not None:
                why = {"error": str(worse)}
                log.error("a new generation took the place all the same", extra=why)
            await asyncio.gather(*(_renew(each, rebuild.view) for each in following))
    finally:
        await builder.end()
        try:
            await building.discard()
        except Exception as error:  # what became of the build is the news
            left = {"view": rebuild.view, "error": named(error)}
            log.warning("what a build has left stays until the next start", extra=left)


async def _filled(builder: ActorHandle, rebuild: Rebuild) -> None:
    """Wait until a build has come to the log's end.

    Raises:
        ProjectionError: it does not go on, or an event has stopped it.
    """
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
        stopped = builder.seen["stopped"].items()
        reasons = "; ".join(f"{view}: {error}" for view, error in stopped)
        raise ProjectionError(f"the build stopped: {reasons}")


async def _worse(building: Building, rebuild: Rebuild) -> WouldPark | None:
    """Return what a build serves less than the live one does: a fold is wrong, perhaps for all.

    Raises:
        WouldPark: that, unless somebody puts up with it.
    """
    new = await building.newly_parked()
    if new is None:
        return None
    worse = would_park(rebuild.view, rebuild.store or rebuild.stores[0], new)
    if not rebuild.accept_parked:
        raise worse
    return worse


class Coming(Protocol):
    """What fills a generation."""

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        ...

    async def reached(self, position: int, deadline: float) -> bool:
        """Wait until it has come so far; `deadline` is in `time.monotonic` seconds."""
        ...


async def reaches(builder: Coming, position: int, folded: FoldedLog) -> bool:
    """Wait until a build has come so far; return False if it has all that the log has.

    Then the log was restored to an earlier moment, or nothing of the domain stands in between.

    Raises:
        ProjectionError: it does not come so far.
        StoreUnavailable: the log's end is not known.
    """
    until = time.monotonic() + READY
    while not await builder.reached(position, min(until, time.monotonic() + PATIENCE)):
        if builder.progress.position >= await folded.end():
            return False
        if time.monotonic() > until:
            raise ProjectionError("the build does not come as far as the live generation")
    return True


async def enough(builder: Coming, lost: FoldedLog | None, position: int) -> int | None:
    """See `Reached`. `lost` is the log where it has less than the live generation."""
    if lost is not None:
        position = min(position, await lost.end())
    there = await builder.reached(position, time.monotonic() + SWITCH)
    return position if there else None


async def _renew(actor: ActorHandle, view: str) -> None:
    try:
        await actor.renew(view)
    except ActorUnavailable as error:  # it finds out when it begins again
        log.info("an actor was not renewed", extra={"actor": actor.name, "error": error})
