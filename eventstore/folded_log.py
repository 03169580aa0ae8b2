"""Whether the log still has what was folded from it and is stored elsewhere with a position.

A log that was restored to an earlier state ends before such a position, and later appends differ
from what was folded. Servers differ in whether they report that. The embedded server counts its
positions, and refuses those beyond its end. KurrentDB's positions are offsets in its files: newer
releases refuse one between two records, but some answer one beyond the end with an empty read.
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
"""Seconds for the log to answer; if it sends nothing by then, it has the position."""

LAG = 5.0
"""Seconds for which the answering node may lack the newest events (a follower) or may not answer.
If it lacks them for longer, rows are folded anew needlessly."""

LOOK = 0.5


class FoldedLog:
    """Asks a domain's log whether it has a position."""

    def __init__(self, log: Log, prefixes: Sequence[str]) -> None:
        self._log = log
        self._prefixes = prefixes

    async def has(self, position: int) -> bool:
        """Return whether the log has a position; True if it does not answer."""
        return await self._says(position) is not False

    async def end(self) -> int:
        """Return the position of the last event of the domain.

        Raises:
            StoreUnavailable: no answer.
        """
        return await self._log.end_position(self._prefixes)

    def follow(self, position: int, **options: Any) -> AsyncGenerator[Batch, None]:
        """Subscribe to what follows a position; `options` are those of `Log.subscribe`."""
        return self._log.subscribe(self._prefixes, position or None, **options)

    async def beyond_end(
        self, checkpoints: Mapping[str, int], refused: int | None = None
    ) -> dict[str, int]:
        """Return the checkpoints that are beyond the end of the whole log, as the leader has it.

        They must also be refused, as `refused` was: a valid position may be beyond the last event
        that the server shows. A refusal alone may mean that the node only lags.

        Raises:
            StoreUnavailable: the end of the log is not known.
        """
        beyond = await self._beyond_end({*checkpoints.values()})
        lost = {at for at in beyond if at == refused or not await self.has(at)}
        return {name: at for name, at in checkpoints.items() if at in lost}

    async def lacks(self, checkpoints: Mapping[str, int]) -> list[str]:
        """Return the names of the checkpoints that the log does not have, even after waiting."""
        until = time.monotonic() + LAG
        asked, lost = {*checkpoints.values()}, set[int]()
        while asked:
            said = dict(zip(asked, await asyncio.gather(*map(self._says, asked)), strict=True))
            refused = {at for at in asked if said[at] is False}
            unknown = {at for at in asked if said[at] is None}
            with suppress(StoreUnavailable):  # without delay, since the log may grow past them
                lost |= await self._beyond_end(refused)
            asked = (refused | unknown) - lost
            if asked and time.monotonic() > until:
                lost |= refused
                if unknown:
                    where = {"positions": sorted(unknown)}
                    log.warning("whether the log still has what was folded is unknown", extra=where)
                break
            if asked:
                await asyncio.sleep(LOOK)
        return [name for name, at in checkpoints.items() if at in lost]

    async def _beyond_end(self, positions: set[int]) -> set[int]:
        end = await self._log.end_position(None)
        return {at for at in positions if at > end}

    async def _says(self, position: int) -> bool | None:
        """Return whether the log has the position; None without an answer."""
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
