"""The write side without Ray: the same host and bus, in this process, on any log.

    runtime = LocalRuntime(Registry.load("domain"))
    receipt = await runtime.send(CreateOrder(order_id=uuid4(), customer_id="ada"))

For a user's fast tests. It differs from production in where a writer runs, not in what it does:
both pass one suite of behaviours.
"""

from __future__ import annotations

from uuid import UUID, uuid4

from actors.command_bus import CommandBus
from actors.command_middleware import ANYBODY, CommandMiddleware, Sender
from actors.envelope import Envelope, Outcome, enclose
from actors.host.limits import HostLimits
from actors.host.state.memory import MemoryStates
from actors.host.state.port import States
from actors.host.writers import Writers
from eventstore.memory import MemoryLog
from eventstore.port import Log
from rayfold import Command, Receipt, Registry
from rayfold.aggregate import AggregateType
from rayfold.runtime.middleware_layers import DomainMiddleware


class LocalRuntime:
    """Everything in one process, over a `MemoryLog` and `MemoryStates` unless others are given."""

    def __init__(
        self,
        registry: Registry,
        log: Log | None = None,
        limits: HostLimits | None = None,
        states: States | None = None,
    ) -> None:
        self._registry = registry
        self.log: Log = log or MemoryLog()
        self.states: States = states or MemoryStates()
        incarnation = f"local:{uuid4().hex[:12]}"
        self.host = Writers(registry, self.log, incarnation, limits, self.states)
        self.bus = CommandBus(registry, self._route)
        self._middleware = DomainMiddleware(registry)
        self._around = CommandMiddleware.of(registry, self.bus, self._middleware)

    async def send(
        self,
        command: Command,
        *,
        command_id: UUID | None = None,
        expected_revision: int | None = None,
        principal: str = "",
        sender: Sender = ANYBODY,
        tenant: str = "",
    ) -> Receipt:
        """Return a receipt, or raise what `CommandMiddleware.send` raises.

        `sender` and `principal` tell the domain's middleware who sends the command.
        """
        envelope = enclose(
            self._registry,
            command,
            command_id=command_id,
            expected_revision=expected_revision,
            principal=principal,
            tenant=tenant,
        )
        if self._around is None:
            return await self.bus.send(envelope)
        return await self._around.send(envelope, sender)

    async def close(self) -> None:
        """Close what the domain's middleware has opened; nothing else needs closing."""
        await self._middleware.close()

    async def _route(self, owner: AggregateType, envelope: Envelope) -> Outcome:
        return (await self.host.handle([envelope]))[0]
