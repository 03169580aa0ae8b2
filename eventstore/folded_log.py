"""Whether the log still has what was folded from it and is stored elsewhere with a position.

A log that was restored to an earlier moment ends before such a position, and what is written to it
then is not what was folded. Whether a server says so is another matter: the embedded one counts its
positions, and refuses those beyond its end. KurrentDB's are places in its files: newer releases
refuse one that is between two records, but of one beyond the end some say that nothing is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from eventstore.errors import NoSuchPosition, StoreUnavailable
from eventstore.port import Log
from eventstore.records import Batch

log = logging.getLogger(__name__)

ANSWER = 5.0
"""Seconds for the log to begin to answer; one that has nothing to say has the position."""

LAG = 5.0
"""Seconds in which the node that answers may lack the newest events, as it was no leader, or may
not answer at all. If it lacks them for longer rows are folded afresh in vain."""

LOOK = 0.5


class FoldedLog:
    """Asks the log of a domain whether it has a position."""

    def __init__(self, log: Log, prefixes: Sequence[str]) -> None:
        self._log = log
        self._prefixes = prefixes

    async def has(self, position: int) -> bool:
        """Return whether it does; True where nobody can tell, as the log does not answer."""
        return await self._says(position) is not False

    async def end(self) -> int:
        """Return the position of the last event of the domain.

        Raises:
            StoreUnavailable: no answer.
        """
        return await self._log.end_position(self._prefixes)

    def follow(self, position: int, **options: Any) -> AsyncGenerator[Batch, None]:
        """Subscribe to what comes after it, as `Log.subscribe` does with the same `options`."""
        return self._log.subscribe(self._prefixes, position or None, **options)

    async def beyond_end(
        self, checkpoints: Mapping[str, int], refused: int | None = None
    ) -> dict[str, int]:
        """Return those that all of the log ends before, as whoever takes appends knows it.

        And that are refused too, as `refused` was: what a server calls a position may be beyond
        the last event that it shows. A node that refuses one may only lag.

        Raises:
            StoreUnavailable: nobody says where the log ends.
        """
        beyond = await self._beyond_end({*checkpoints.values()})
        lost = {at for at in beyond if at == refused or not await self.has(at)}
        return {name: at for name, at in checkpoints.items() if at in lost}

    async def lacks(self, checkpoints: Mapping[str, int]) -> list[str]:
        """Return the names of those that the log does not have, and will not get by waiting."""
        until = time.monotonic() + LAG
        asked, lost = {*checkpoints.values()}, set[int]()
        while asked:
            said = dict(zip(asked, await asyncio.gather(*map(self._says, asked)), strict=True))
            refused = {at for at in asked if said[at] is False}
            unknown = {at for at in asked if said[at] is None}
            with suppress(StoreUnavailable):  # at once: the log may grow past them
                lost |= await self._beyond_end(refused)
            asked = (refused | unknown) - lost
            if asked and time.monotonic() > until:
                lost |= refused
                if unknown:
                    where = {"positions": sorted(unknown)}
                    log.warning("whether the log has what was folded is not known", extra=where)
                break
            if asked:
                await asyncio.sleep(LOOK)
        return [name for name, at in checkpoints.items() if at in lost]

    async def _beyond_end(self, positions: set[int]) -> set[int]:
        end = await self._log.end_position(None)
        return {at for at in positions if at > end}

    async def _says(self, position: int) -> bool | None:
        """Return whether it has the position; None without an answer."""
        if not position:
            return True
        try:
            async with asyncio.timeout(ANSWER), aclosing(self.follow(position)) as batches:
                async for _ in batches:
                    break
        except NoSuchPosition:
            return False
        except TimeoutError:
            return True
        except StoreUnavailable:
            return None
        return True
