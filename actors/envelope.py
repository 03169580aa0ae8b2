"""A command as it is sent to its writer, and the outcome that comes back."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple
from unicodedata import category
from uuid import UUID, uuid4

from actors.errors import DecisionFailed, InvalidCommand
from rayfold import Command, DecisionDefinition, Registry
from rayfold.aggregate import AggregateType
from rayfold.decision import Instance, ReadMany, unfit
from rayfold.personal import of_tenant

MAX_ID_BYTES = 1024
"""The longest aggregate id, in bytes of UTF-8; a row's key in Postgres may be somewhat longer."""

_SURELY_SHORT = MAX_ID_BYTES // 4


class Envelope(NamedTuple):
    """A command as bytes, with the metadata that the log records.

    A tuple of strings and bytes is serialized in microseconds, a pydantic model in half a
    millisecond. `payload` is the command as JSON, already validated; `stream` is its aggregate's.
    `fingerprint` tells whether a repeated `command_id` means the same command; it is stored on the
    log, so it does not cover personal data, which could be guessed and then confirmed by it. An
    empty `correlation_id` stands for the command id. After `deadline`, by this process's monotonic
    clock, nobody waits for the outcome. `tenant` is the stream's, where a stack serves tenants.
    `only_refuse`: the receiver is not the aggregate's writer; it may refuse the command, and
    appends nothing.
    """

    command: str
    stream: str
    payload: bytes
    command_id: str
    fingerprint: str
    expected_revision: int | None = None
    principal: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""
    deadline: float = math.inf
    tenant: str = ""
    only_refuse: bool = False

    def to_wire(self, now: float) -> tuple[Any, ...]:
        """Return the envelope for another process, with the remaining seconds as its deadline.

        Clocks differ, so no point in time is sent. Trailing fields that have their defaults are
        left out: an older release, which does not know them, can then read the rest.
        """
        sent = (*self[:_DEADLINE], self.deadline - now)
        if self.only_refuse:
            return (*sent, self.tenant, True)
        return (*sent, self.tenant) if self.tenant else sent

    @classmethod
    def from_wire(cls, sent: tuple[Any, ...], now: float) -> Envelope:
        """Return the envelope that `to_wire` encoded, with a deadline by this process's clock."""
        at, later = _DEADLINE, ("", False)
        missing = later[len(sent) - at - 1 :]
        return cls._make((*sent[:at], sent[at] + now, *sent[at + 1 :], *missing))


_DEADLINE = Envelope._fields.index("deadline")


class Done(NamedTuple):
    """The command's events are on the log: see `rayfold.Receipt`.

    `revisions` is set for a decision over several aggregates, otherwise None.
    """

    revision: int
    position: int
    revisions: dict[str, int] | None = None


Outcome = Done | Exception
"""An exception is a `rayfold.Refused` or a `WriteSideError`."""


def enclose(
    registry: Registry,
    command: Command,
    *,
    command_id: UUID | None = None,
    expected_revision: int | None = None,
    principal: str = "",
    timeout: float = math.inf,
    tenant: str = "",
) -> Envelope:
    """Return an envelope for a command, with a new command id unless one is given.

    `timeout` is in seconds; without one there is no deadline.
    """
    definition = type(command).__rayfold__
    check_keys(registry.keyed_by.get(type(command), ()), command)
    given = command.model_dump_json(exclude={*definition.server_supplied, *definition.personal})
    return Envelope(
        definition.name,
        leading_stream_of(registry, command, tenant),
        payload_of(command, tenant),
        str(command_id or uuid4()),
        fingerprint_of(f"{definition.name} ".encode(), given.encode(), tenant),
        expected_revision,
        principal,
        deadline=time.monotonic() + timeout,
        tenant=tenant,
    )


def fingerprint_of(name: bytes, given: bytes, tenant: str) -> str:
    """Return a fingerprint of a command's name, the values given and the tenant.

    `name` is the command's name and a space.
    """
    salt = name + tenant.encode() + b":" if tenant else name
    return hashlib.blake2b(salt + given, digest_size=16).hexdigest()


def payload_of(command: Command, tenant: str) -> bytes:
    """Return a tenant's command as JSON, as its writer reads it.

    Raises:
        DecisionFailed: the writer would read a different command: the domain's code changes it.
    """
    definition = type(command).__rayfold__
    try:
        return of_tenant(definition.encode(command), tenant)
    except ValueError as error:
        raise DecisionFailed(f"{definition.name} failed: {error}") from error


def leading_stream_of(registry: Registry, command: Command, tenant: str) -> str:
    """Return the stream of the aggregate whose writer decides on a tenant's command.

    Raises:
        InvalidCommand, DecisionFailed: see `stream_of` and `instances_of`.
    """
    decision = registry.decisions.get(type(command))
    if decision is not None:
        return instances_of(decision, command, tenant)[0].stream
    return stream_of(registry.owner[type(command)], command, tenant)


def streams_of(registry: Registry, envelope: Envelope) -> list[str]:
    """Return the streams that a command may write to, the leading one first."""
    definition = registry.commands.get(envelope.command)
    if definition is None or definition.model not in registry.decisions:
        return [envelope.stream]
    decision = registry.decisions[definition.model]
    instances = instances_of(decision, definition.decode(envelope.payload), envelope.tenant)
    return [each.stream for each in instances]


def instances_of(
    decision: DecisionDefinition, command: Command, tenant: str
) -> tuple[Instance, ...]:
    """Return the aggregates that a decision over several reads for a tenant's command.

    Raises:
        InvalidCommand: an id is not valid, two are of the same stream, or there are too many.
        DecisionFailed: the domain's code that makes an id from the command failed.
    """
    try:
        found = decision.instances(command, tenant)
    except (Exception, SystemExit) as error:
        name = type(command).__rayfold__.name
        raise DecisionFailed(f"{name} failed: {type(error).__name__}: {error}") from error
    if told := unfit(found):
        raise InvalidCommand(told)
    for each in found:
        read = decision.reads[each.name]
        field = read.by if isinstance(read.by, str) else ""
        name = field or each.name
        if isinstance(read, ReadMany):
            name = f"an id in {name}"
        _check_id(each.stream[len(each.aggregate.stream("", tenant)) :], name, field)
    return found


def stream_of(aggregate: AggregateType, command: Command, tenant: str) -> str:
    """Return the stream of the aggregate that a tenant's command is for.

    Raises:
        InvalidCommand: the id is empty, has control characters, or is longer than
            `MAX_ID_BYTES`: no store keeps rows under such a key.
    """
    try:
        stream = aggregate.stream(getattr(command, aggregate.id_field), tenant)
    except UnicodeEncodeError as error:  # half of a surrogate pair
        field = aggregate.id_field
        raise InvalidCommand(
            f"{field} has control characters, or is not valid Unicode", field
        ) from error
    if len(stream) > _SURELY_SHORT or not stream.isprintable() or stream[-1] in "-:":
        field = aggregate.id_field
        _check_id(stream[len(aggregate.stream("", tenant)) :], field, field)
    return stream


def check_keys(fields: Iterable[str], command: Command) -> None:
    """Check the fields that views use as a key or an index: see `Registry.keyed_by`.

    Raises:
        InvalidCommand: Postgres would never accept the row, so it would stay parked for good.
    """
    for field in fields:
        text = getattr(command, field)
        if not text or (len(text) <= _SURELY_SHORT and text.isprintable()):
            continue
        if "\0" in text:
            raise InvalidCommand(f"{field} holds a NUL character", field)
        size = len(text.encode())
        if size > MAX_ID_BYTES:
            raise InvalidCommand(
                f"{field} has {size} bytes; at most {MAX_ID_BYTES}, as views have rows by it", field
            )


def _check_id(aggregate_id: str, name: str, field: str) -> None:
    """Raise if this cannot be an id; `name` is the client's name for it, `field` is where it is."""
    if not aggregate_id:
        raise InvalidCommand(f"{name} is empty", field)
    if any(category(character) in ("Cc", "Cs") for character in aggregate_id):
        raise InvalidCommand(f"{name} has control characters: {aggregate_id[:80]!r}", field)
    size = len(aggregate_id.encode())
    if size > MAX_ID_BYTES:
        raise InvalidCommand(f"{name} has {size} bytes; at most {MAX_ID_BYTES}", field)
