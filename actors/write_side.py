"""The complete write side in one process: its owner, and a gateway to it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

from actors.host.state.postgres import PostgresStates
from actors.host.state.verification import verify_states
from actors.placement.host_actors import DRAIN_TIMEOUT
from actors.write_gateway import WriteGateway
from actors.write_owner import WriteOwner
from actors.write_settings import WriteSettings
from eventstore.personal.opening import open_log
from rayfold import Registry


class WriteSide:
    """Requires a running Ray; it ends the actors that it has started."""

    def __init__(
        self, registry: Registry, settings: WriteSettings, before: dict[str, Any] | None = None
    ) -> None:
        """See `WriteOwner`."""
        self.settings = settings
        self._registry = registry
        self.owner = WriteOwner(registry, settings, before=before, changed=self._follow)
        self.gateway = WriteGateway(
            registry, settings, make_dedicated=self.owner.make_dedicated, look=self._follow
        )
        self.bus = self.gateway.bus
        self.scale = self.owner.scale
        self.delete_stream = self.owner.delete_stream
        self.forget_personal = self.owner.forget_personal
        self.refill = self.owner.refill
        self.pids = self.owner.pids
        self.outcome = self.owner.outcome

    @classmethod
    async def start(
        cls, registry: Registry, settings: WriteSettings, before: dict[str, Any] | None = None
    ) -> WriteSide:
        """Start the hosts and wait until they answer.

        Raises:
            WriteSideError: one of them does not answer.
        """
        side = cls(registry, settings, before)
        await side.owner.start()
        side.gateway.start()
        return side

    def routes(self) -> dict[str, Any]:
        """See `WriteOwner.routes`."""
        return self.owner.routes()

    async def lose(self) -> None:
        """Stop calling actors: Ray is gone. Commands wait for `heal`, within their deadlines."""
        await self.owner.lose()
        await self.gateway.lose()

    async def heal(self) -> None:
        """Start the actors again in another Ray; wait for the hosts.

        Commands without an answer are sent to the new hosts.

        Raises:
            WriteSideError: a host does not start.
        """
        await self.owner.heal()
        await self.gateway.heal()

    async def status(self) -> list[dict[str, Any]]:
        """See `WriteGateway.status`."""
        parts, counts = await self.gateway.status(), self.owner.counts()
        return [{**part, **counts.get(part["part"], {})} for part in parts]

    async def verify(self) -> list[dict[str, Any]]:
        """Return the rows of stored states that differ from the log; see `verify_states`."""
        stored = self._registry.state_stored
        if not stored:
            return []
        log = open_log(self.settings.eventstore, self._registry, self.settings.postgres)
        states = PostgresStates(self.settings.postgres)
        try:
            await states.prepare(stored)
            return await verify_states(self._registry, log, states)
        finally:
            await states.close()
            await log.close()

    async def stop(self) -> None:
        """Finish accepted commands; end the actors, unless they are detached."""
        await self._stop(end=not self.settings.detached)

    async def end(self) -> None:
        """Do the same, but end the actors in any case."""
        await self._stop(end=True)

    async def _stop(self, *, end: bool) -> None:
        async with AsyncExitStack() as closing:  # in reverse order, even if one of them raises
            closing.push_async_callback(self.gateway.stop)
            closing.push_async_callback(self.owner.end if end else self.owner.stop)
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_TIMEOUT):
                    await self.gateway.idle()

    def _follow(self) -> None:
        self.gateway.follow(self.settings.epoch, self.owner.routes())
