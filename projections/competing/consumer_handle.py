"""A competing consumer as its supervisor sees it."""

from __future__ import annotations

import logging

from projections.errors import ActorUnavailable
from projections.supervision.actor_handle import ActorHandle

log = logging.getLogger(__name__)


class ConsumerHandle(ActorHandle):
    """The handle of a consumer, which can be told to rejoin its group."""

    async def rejoin(self) -> None:
        """Make it leave and rejoin its group, so that streams are distributed again."""
        try:
            await self._call("rejoin")
        except ActorUnavailable as error:
            log.info("a consumer did not rejoin", extra={"actor": self.name, "error": error})
