"""Sends every command to its aggregate's single writer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from actors.envelope import Done, Envelope, Outcome
from actors.errors import InvalidCommand, Unavailable
from rayfold import Receipt, Registry
from rayfold.aggregate import AggregateType
from rayfold.runtime.deadlines import Deadlines
from rayfold.tenants import tenant_of_stream

Route = Callable[[AggregateType, Envelope], Awaitable[Outcome]]


class CommandBus:
    """Sends commands to their writers, whatever those run in."""

    def __init__(self, registry: Registry, route: Route) -> None:
        """`route` sends an envelope to the writer of an aggregate of that class."""
        self._route = route
        self._tenants = registry.tenants
        self._deadlines = Deadlines()
        self._owners: dict[str, AggregateType] = {
            name: registry.owner[command.model] for name, command in registry.commands.items()
        }

    async def send(self, envelope: Envelope) -> Receipt:
        """Return a receipt once the command's events are durable.

        Raises:
            Rejected, NotFound: a business rule refused it; nothing was appended.
            RevisionMismatch, KeyReused, InvalidCommand, Overloaded: nothing was appended.
            Unavailable: events may have been appended, or the envelope's deadline has passed; it is
                safe to send again with the same command id.
            StreamUnreadable, DecisionFailed: an error in the domain's code, or in its events.
        """
        owner = self._owners.get(envelope.command)
        if owner is None:
            raise InvalidCommand(f"no command is named {envelope.command!r}")
        if self._tenants and (
            not envelope.tenant or tenant_of_stream(envelope.stream) != envelope.tenant
        ):
            raise InvalidCommand(f"{envelope.command!r} needs a tenant, and none was given")
        try:
            # One deadline for everything: starting an actor, waiting in queues, and all attempts.
            with self._deadlines.until(envelope.deadline):
                outcome: Any = await self._route(owner, envelope)
        except TimeoutError:
            raise Unavailable("the command's deadline has passed") from None
        if isinstance(outcome, Done):
            several = {} if outcome.revisions is None else {"revisions": outcome.revisions}
            return Receipt(
                command_id=UUID(envelope.command_id),
                stream=envelope.stream,
                revision=outcome.revision,
                position=outcome.position,
                **several,
            )
        raise outcome
