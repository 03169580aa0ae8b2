"""Where the write side can run: without Ray, sharded on Ray, dedicated on Ray."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from actors.command_bus import CommandBus
from actors.envelope import enclose
from actors.host.state.port import States
from eventstore.port import Log
from eventstore.records import RawRecord
from rayfold import Command, Receipt, Registry


class Orders:
    """Speaks to a runtime in terms of one domain; the same for all of them."""

    def __init__(
        self,
        registry: Registry,
        bus: CommandBus,
        log: Log,
        fresh_bus: Any,
        delete: Any,
        states: States | None = None,
    ) -> None:
        self.registry = registry
        self.bus = bus
        self.log = log
        self._fresh_bus = fresh_bus
        self.states = states
        self.delete = delete
        """Deletes a stream: `await delete(stream, tombstone=…)`."""

    async def send(
        self, command: Command, *, key: UUID | None = None, expected: int | None = None
    ) -> Receipt:
        """A receipt, or what the bus raises."""
        return await self.bus.send(
            enclose(self.registry, command, command_id=key, expected_revision=expected)
        )

    async def after_a_crash(self) -> None:
        """Goes on with a writer that remembers nothing."""
        self.bus = await self._fresh_bus()

    async def events(self, stream: str) -> list[RawRecord]:
        """What the log has."""
        return [raw async for raw in self.log.read_stream(stream)]
