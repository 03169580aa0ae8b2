"""Publications and reactors, started and stopped together by the stack's owner."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from projections.publications.publication_side import PublicationSide
from projections.publications.settings import Configured
from projections.reactors.reactor_side import ReactorSide
from projections.settings import ReadSettings
from rayfold import Registry
from rayfold.runtime.together import all_done, together


class OutboundSide:
    """Publications and reactors; commands and queries use neither."""

    def __init__(
        self, registry: Registry, settings: ReadSettings, configured: Mapping[str, Configured]
    ) -> None:
        """Take the publications' targets by name."""
        self.publications = PublicationSide(registry, settings, configured)
        self.reactors = ReactorSide(registry, settings)

    async def start(self) -> None:
        """Start the actors and wait until they answer.

        Raises:
            PostgresUnavailable, StoreUnavailable: a store does not answer.
            ActorUnavailable: an actor does not start.
        """
        await together(self.publications.start(), self.reactors.start())

    async def lose(self) -> None:
        """Stop calling actors: their Ray is gone."""
        await asyncio.gather(self.publications.lose(), self.reactors.lose())

    async def heal(self) -> None:
        """Start every missing actor again, in another Ray."""
        await asyncio.gather(self.publications.heal(), self.reactors.heal())

    async def stop(self) -> None:
        """End the actors, unless they outlive their owner; close connections."""
        await all_done(self.publications.stop(), self.reactors.stop())

    async def end(self) -> None:
        """End the actors for good."""
        await all_done(self.publications.end(), self.reactors.end())

    def status(self) -> list[dict[str, Any]]:
        """Return the status of every actor, as parts of the stack."""
        return [*self.publications.status(), *self.reactors.status()]
