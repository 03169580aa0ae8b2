"""Whether the log still has what was folded from it, and is kept elsewhere with a position.

A log that was restored to an earlier moment ends before such a position, and what is written to it
then is not what was folded. Whether a server says so is another matter: the embedded one counts its
positions, and refuses those beyond its end. KurrentDB's are places in its files: newer releases
refuse one that is between two records, but of one beyond the end some say that nothing is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from eventstore.errors import NoSuchPosition, StoreUnavailable
from eventstore.port import Log

ANSWER = 5.0
"""Seconds for the log to begin to answer; one that has nothing to say has the position."""

LAG = 5.0
"""Seconds in which the node that answers may lack the newest events, as it was no leader. If it
lacks them for longer rows are folded afresh in vain; and if a log that was restored grows past what
it has lost meanwhile, nobody finds out here."""

LOOK = 0.5


class FoldedLog:
    """Asks the log of a domain whether it has a position."""

    def __init__(self, log: Log, prefixes: Sequence[str]) -> None:
        self._log = log
        self._prefixes = prefixes

    async def has(self, position: int) -> bool:
        """Return whether it does; True where nobody can tell, as the log does not answer."""
        if not position:
            return True
        subscription = self._log.subscribe(self._prefixes, position)
        try:
            async with asyncio.timeout(ANSWER), aclosing(subscription) as batches:
                async for _ in batches:
                    break
        except NoSuchPosition:
            return False
        except (StoreUnavailable, TimeoutError):
            pass
        return True

    async def end(self) -> int:
        """Return the position of the last event of the domain.

        Raises:
            StoreUnavailable: no answer.
        """
        return await self._log.end_position(self._prefixes)

    async def lacks(self, checkpoints: Mapping[str, int]) -> list[str]:
        """Return the names of those that the log does not have, and will not get by waiting."""
        until = time.monotonic() + LAG
        # A log that was restored may have grown to the furthest, and lack one before it.
        while lost := {at for at in {*checkpoints.values()} if not await self.has(at)}:
            if time.monotonic() > until:
                return [name for name, at in checkpoints.items() if at in lost]
            await asyncio.sleep(LOOK)
        return []
