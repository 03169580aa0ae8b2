"""A competing consumer as its supervisor sees it."""

from __future__ import annotations

import logging

from projections.errors import ActorUnavailable
from projections.supervision.actor_handle import ActorHandle

log = logging.getLogger(__name__)


class ConsumerHandle(ActorHandle):
    """It can be told to join its group again."""

    async def rejoin(self) -> None:
        """Let it leave its group and join again, so that streams are shared out again."""
        try:
            await self._call("rejoin")
        except ActorUnavailable as error:
            log.info("a consumer did not rejoin", extra={"actor": self.name, "error": error})
