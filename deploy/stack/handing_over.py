"""Handing over from one release to the next, once the new one's controller owns the stack.

Old code never sees a new event or row: first gateways are replaced, then projections, then writers.
See `docs/adr/0014-a-successor-brings-the-code.md`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from deploy.stack.presence import gateways_of
from rayfold import RayfoldError
from rayfold.runtime.postgres import FAILURES, connected

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two checks of which gateways exist."""

TIMEOUT = 5.0
"""Seconds for Postgres to answer."""


class HandingOver:
    """The parts of the previous release, until nothing needs them."""

    def __init__(self, dsn: str, own: str, before: dict[str, Any]) -> None:
        """`before` is the routing document of the previous owner, `own` our hash."""
        self._dsn = dsn
        self._own = own
        self.previous: dict[str, Any] = dict(before.get("previous") or {})
        """The read parts of the routing table by release hash, for gateways of other releases."""
        if before.get("domain") not in (None, own) and "read" in before:
            self.previous[before["domain"]] = before["read"]
        self.previous.pop(own, None)

    async def run(
        self,
        end_read_side: Callable[[], Awaitable[Any]],
        renew_hosts: Callable[[], Awaitable[Any]],
        changed: Callable[[], None],
    ) -> None:
        """Wait until no gateway runs another release; end their read side; renew the hosts.

        `changed` is called when `previous` has changed.
        """
        if not self.previous:
            return
        log.warning("gateways of the release before are waited for")
        while others := await self._others():
            log.info("gateways of another release are there", extra={"places": others})
            await asyncio.sleep(LOOK)
        await _persistently(end_read_side)
        await _persistently(renew_hosts)
        self.previous = {}
        changed()
        log.warning("all of the stack is of this release", extra={"domain": self._own})

    async def _others(self) -> list[str]:
        """Return the places of gateways of other releases; assume one if that is unknown."""
        try:
            async with (
                connected(self._dsn, within=TIMEOUT) as connection,
                asyncio.timeout(TIMEOUT),
            ):
                found = await gateways_of(connection)
        except FAILURES as error:
            return [repr(error)]
        return [each.place for each in found if each.domain != self._own]


async def _persistently(step: Callable[[], Awaitable[Any]]) -> None:
    """Repeat a step until it succeeds: each adopts what exists already."""
    while True:
        try:
            await step()
        except RayfoldError as error:
            log.error("a step of the upgrade is taken again", extra={"error": str(error)})
            await asyncio.sleep(LOOK)
        else:
            return
