"""Building a new generation beside the live one, and the switch to it."""

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
"""Seconds in which a build must reach the live one, which waits meanwhile."""

PATIENCE = 5.0
"""Seconds for which the node that reports the log's end may lag: it may have become leader just
now.
"""

STUCK = 30.0
"""Seconds after which a build that only reports errors is given up."""


class Building(Protocol):
    """A generation that is being built, of a view or a SQL projection: see `Generations`."""

    async def newly_parked(self) -> NewlyParked | None:
        """Return what is parked in it and not in the live one."""
        ...

    async def finish(self) -> int:
        """Do what is faster on a full generation; return how far the live one is then."""
        ...

    async def switch(self, reached: Reached) -> None:
        """Replace the live generation by it."""
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
    """Wait until `builder` has filled a generation, and switch. The builder ends in any case.

    `following` fill the live one, and are told of the switch. `changing` is held while switching.
    If the log was restored to an earlier moment, and lacks events of the live one, the build must
    have all of the log.

    Raises:
        WouldPark: it serves less than the live one, which stays.
        ProjectionError: the build failed; the live one stays.
    """
    try:
        await answering([builder])
        await _filled(builder, rebuild)
        worse = await _worse(building, rebuild)
        furthest = await building.finish()
        # Events that came during `finish`: folded before the live one has to wait for them.
        is_lost = not await reaches(builder, furthest, folded)
        if is_lost:
            why = {"view": rebuild.view, "position": furthest}
            log.warning("rows are replaced that had more than the log has", extra=why)
        if worse is None and not is_lost:
            worse = await _worse(building, rebuild)  # including the events that came meanwhile

        async def enough_that_serves(position: int) -> int | None:
            there = await enough(builder, folded if is_lost else None, position)
            if there is None:
                return None
            await builder.look()
            # Writers wait meanwhile, so parked rows are only compared if there are any and the
            # result matters. Those found may be of events that the live one has folded since the
            # last comparison. Not every builder counts them.
            is_asked = not rebuild.accept_parked and not is_lost
            if is_asked and builder.seen.get("parked") != 0:
                await _worse(building, rebuild)
            return there

        rebuild.state = "switching"
        async with changing:
            await building.switch(enough_that_serves)
            if worse is not None:
                why = {"error": str(worse)}
                log.error("a new generation is used although it parks keys", extra=why)
            await asyncio.gather(*(_renew(each, rebuild.view) for each in following))
    finally:
        await builder.end()
        try:
            await building.discard()
        except Exception as error:  # the failure of the build is what matters
            left = {"view": rebuild.view, "error": named(error)}
            log.warning(
                "what a failed build left could not be removed: the next start removes it",
                extra=left,
            )


async def _filled(builder: ActorHandle, rebuild: Rebuild) -> None:
    """Wait until a build has reached the log's end.

    Raises:
        ProjectionError: it makes no progress, or an event has stopped it.
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
    """Return the error if a build serves less than the live one: a fold is wrong, maybe for all.

    Raises:
        WouldPark: that error, unless it was accepted.
    """
    new = await building.newly_parked()
    if new is None:
        return None
    worse = would_park(rebuild.view, rebuild.store or rebuild.stores[0], new)
    if not rebuild.accept_parked:
        raise worse
    return worse


class Coming(Protocol):
    """An actor that fills a generation."""

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        ...

    async def reached(self, position: int, deadline: float) -> bool:
        """Wait until it has reached a position; `deadline` is in `time.monotonic` seconds."""
        ...


async def reaches(builder: Coming, position: int, folded: FoldedLog) -> bool:
    """Wait until a build has reached a position; return False if the log has no more events for it.

    Then the log was restored to an earlier moment, or none of the domain's events are in between.

    Raises:
        ProjectionError: it does not get there in time.
        StoreUnavailable: the log's end is unknown.
    """
    until = time.monotonic() + READY
    while not await builder.reached(position, min(until, time.monotonic() + PATIENCE)):
        if builder.progress.position >= await folded.end():
            return False
        if time.monotonic() > until:
            raise ProjectionError("the build does not catch up with the live generation")
    return True


async def enough(builder: Coming, lost: FoldedLog | None, position: int) -> int | None:
    """See `Reached`. `lost` is the log if it has less than the live generation."""
    if lost is not None:
        position = min(position, await lost.end())
    there = await builder.reached(position, time.monotonic() + SWITCH)
    return position if there else None


async def _renew(actor: ActorHandle, view: str) -> None:
    try:
        await actor.renew(view)
    except ActorUnavailable as error:  # it will detect it when it begins again
        log.info("an actor was not renewed", extra={"actor": actor.name, "error": error})
