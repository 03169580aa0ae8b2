"""The way of every command to its aggregate's single writer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from actors.entity import AggregateType
from actors.envelope import Done, Envelope, Outcome
from actors.errors import InvalidCommand
from rayfold import Receipt, Registry

Route = Callable[[AggregateType, str, Envelope], Awaitable[Outcome]]


class CommandBus:
    """Sends commands; the same one whatever runs the writers."""

    def __init__(self, registry: Registry, route: Route) -> None:
        """`route` takes an aggregate class, a stream and an envelope to the writer."""
        self._route = route
        self._owners: dict[str, AggregateType] = {
            name: registry.owner[command] for name, command in registry.commands.items()
        }

    async def send(self, envelope: Envelope) -> Receipt:
        """A receipt once the command's events are durable.

        Raises:
            Rejected, NotFound: a rule said no; nothing was appended.
            RevisionMismatch, KeyReused, InvalidCommand, Overloaded: nothing was appended.
            Unavailable: it may have been; safe to send again with the same command id.
            StreamUnreadable, DecisionFailed: the domain or its log needs a look.
        """
        owner = self._owners.get(envelope.command)
        if owner is None:
            raise InvalidCommand(f"no command is named {envelope.command!r}")
        stream = owner.stream(envelope.aggregate_id)
        outcome: Any = await self._route(owner, stream, envelope)
        if isinstance(outcome, Done):
            return Receipt(
                command_id=UUID(envelope.command_id),
                stream=stream,
                revision=outcome.revision,
                position=outcome.position,
            )
        raise outcome
