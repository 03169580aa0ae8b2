"""Runs a domain's middleware around commands, before the command bus."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from actors.envelope import Envelope, check_keys, instances_of, payload_of, stream_of
from actors.errors import (
    AggregateDeleted,
    DecisionFailed,
    InvalidCommand,
    KeyReused,
    Overloaded,
    RevisionMismatch,
    StreamUnreadable,
    Unavailable,
    WriteSideError,
)
from rayfold import Command, CommandContext, CommandDefinition, Origin, Receipt, Refused, Registry
from rayfold.runtime.deadlines import Deadlines
from rayfold.runtime.middleware_layers import DomainMiddleware, Layers, too_late

_NOTHING_DONE = (
    Refused,
    AggregateDeleted,
    DecisionFailed,
    InvalidCommand,
    KeyReused,
    Overloaded,
    RevisionMismatch,
    StreamUnreadable,
)
"""What the bus raises if this attempt has appended nothing, and will not."""


class Bus(Protocol):
    """See `actors.command_bus.CommandBus`."""

    async def send(self, envelope: Envelope) -> Receipt:
        """See `CommandBus.send`."""
        ...


class Sender(NamedTuple):
    """What middleware is told about a command's sender, beyond its envelope."""

    origin: Origin
    role: str
    permissions: Collection[str] = frozenset()
    headers: Mapping[str, str] = MappingProxyType({})


ANYBODY = Sender(Origin.HTTP, "operator")
"""The sender on a stack without tokens."""

THE_STACK = Sender(Origin.PROCESS, "stack")


class CommandMiddleware:
    """Sends commands through a domain's middleware."""

    def __init__(self, registry: Registry, bus: Bus, layers: Layers[Command, Receipt]) -> None:
        self._registry = registry
        self._bus = bus
        self._layers = layers
        self._deadlines = Deadlines()

    @classmethod
    def of(
        cls, registry: Registry, bus: Bus, middleware: DomainMiddleware
    ) -> CommandMiddleware | None:
        """Return the middleware around a domain's commands; None if there is none."""
        layers = middleware.around("command")
        return None if layers is None else cls(registry, bus, layers)

    async def send(self, envelope: Envelope, sender: Sender) -> Receipt:
        """Return a receipt once the command's events are durable.

        The envelope's fingerprint remains that of the original command: sent again, it is the same
        command, whatever middleware changes.

        Raises:
            Refused: a middleware or a business rule refused it.
            MiddlewareFailed: a middleware failed.
            WriteSideError: see `CommandBus.send`.
        """
        definition = self._registry.commands.get(envelope.command)
        if definition is None:
            return await self._bus.send(envelope)  # which reports it
        try:
            command = definition.decode(envelope.payload)
        except ValueError as error:  # it was stored by another release, for example
            raise InvalidCommand(f"{envelope.command} does not fit: {error}") from error
        context = CommandContext(
            command_id=UUID(envelope.command_id),
            stream=envelope.stream,
            origin=sender.origin,
            principal=envelope.principal,
            tenant=envelope.tenant,
            role=sender.role,
            permissions=sender.permissions,
            correlation_id=envelope.correlation_id or envelope.command_id,
            causation_id=envelope.causation_id,
            expected_revision=envelope.expected_revision,
            headers=sender.headers,
        )
        ends = _CommandEnds(self._registry, self._bus, definition, envelope)
        try:
            # The bus has the same deadline, but the middleware takes time as well.
            with self._deadlines.until(envelope.deadline):
                return await self._layers.run(command, context, ends)
        except TimeoutError:
            raise Unavailable(too_late(ends, "the command's deadline has passed")) from None


class _CommandEnds:
    lasts = True
    at = ""

    def __init__(
        self, registry: Registry, bus: Bus, definition: CommandDefinition, envelope: Envelope
    ) -> None:
        self._registry = registry
        self._bus = bus
        self._definition = definition
        self._envelope = envelope

    def checked(self, asked: Command) -> Command:
        """Return the command validated, as the client's own was."""
        return self._read(asked)[0]

    async def last(self, asked: Command) -> Receipt:
        """Send the command to its writer."""
        return await self._bus.send(self._read(asked)[1])

    def did_nothing(self, error: BaseException) -> bool:
        """Return whether nothing was appended; False if that is unknown: there was no answer."""
        return isinstance(error, _NOTHING_DONE)

    def accepted(self, answer: Any, given: Sequence[Receipt]) -> Receipt:
        """Return a receipt that `proceed` gave: no other proves that events are durable."""
        for each in given:
            if answer == each:
                return each
        went = "proceed gave nothing" if not given else "proceed gave another"
        raise ValueError(f"returned {_kind(answer)}, and {went}: return what proceed gives")

    def _read(self, command: Command) -> tuple[Command, Envelope]:
        wanted, envelope = self._definition, self._envelope
        if type(command) is not wanted.model:
            raise ValueError(
                f"called proceed with {_kind(command)}, not with a {wanted.model.__name__}"
            )
        try:
            payload = payload_of(command, envelope.tenant)
            if payload == envelope.payload:  # however it was changed, even in place
                return command, envelope
            fresh = wanted.decode(payload)
            check_keys(self._registry.keyed_by.get(wanted.model, ()), fresh)
            before, after = self._streams(wanted.decode(envelope.payload)), self._streams(fresh)
        except (ValueError, WriteSideError) as error:
            told = f"called proceed with a {wanted.name} that is not valid, see the log"
            raise ValueError(told) from error
        if after != before:
            raise ValueError(
                f"called proceed with a {wanted.name} for another aggregate: {after[0]}"
            )
        return fresh, envelope._replace(payload=payload)

    def _streams(self, command: Command) -> list[str]:
        decision = self._registry.decisions.get(type(command))
        if decision is not None:
            instances = instances_of(decision, command, self._envelope.tenant)
            return [each.stream for each in instances]
        return [stream_of(self._registry.owner[type(command)], command, self._envelope.tenant)]


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
