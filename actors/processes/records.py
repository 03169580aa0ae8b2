"""The records of a process's stream, and the messages to a process, as JSON.

There is one record per step, written atomically: the message that the process handled, and what it
decided. Another one records each command that was accepted; a refusal is a message and so has a
step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec
from pydantic import ValidationError

from eventstore.positions import At, Fields, move, move_each, move_within, moved
from eventstore.records import NewRecord
from rayfold import Command, Complete, Publish, Registry, TimedOut, Unschedule
from rayfold.process import Aborted, CommandRejected, Happened, ProcessDefinition
from rayfold.process_instance import ABORTED as ABORT_TRIGGER
from rayfold.process_instance import Decided, ProcessStep, Sending, Timer
from rayfold.tenants import within

SAW_EVENT = "ProcessSawEvent"
TIMED_OUT = "ProcessTimedOut"
COMMAND_REJECTED = "ProcessCommandRejected"
COMMAND_ACCEPTED = "ProcessCommandAccepted"
PARKED = "ProcessParked"
"""A handler failed on a message: the process is parked until it is retried or aborted."""
WAITS = "ProcessWaits"
"""A message arrived while it was parked."""
DROPPED = "ProcessDropped"
"""A waiting message no longer concerns it: for example a timeout that was unscheduled meanwhile."""
ABORTED = "ProcessAborted"
"""An operator has aborted it: its compensation is decided, or it ends as it is."""

STEPS = (SAW_EVENT, TIMED_OUT, COMMAND_REJECTED)

TYPES = (*STEPS, COMMAND_ACCEPTED, PARKED, WAITS, DROPPED, ABORTED)

_NOTHING = msgspec.Raw(b"{}")


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message to a process: an event of the log, a timeout, or a refused command.

    `trigger` identifies it uniquely. `caused_by` is the command that caused the event.
    """

    trigger: str
    event: str = ""
    version: int = 1
    stream: str = ""
    revision: int = -1
    position: int | None = None
    data: msgspec.Raw = _NOTHING
    timeout: str = ""
    number: int = 0
    due: datetime | None = None
    command_id: str = ""
    rule: str = ""
    detail: str = ""
    caused_by: str = ""
    correlation_id: str = ""

    @property
    def step_type(self) -> str:
        """Return the event type of a step that handles it."""
        if self.event:
            return SAW_EVENT
        return TIMED_OUT if self.timeout else COMMAND_REJECTED


class _Send(msgspec.Struct, tag="send", omit_defaults=True):
    command_id: UUID
    command: str
    payload: msgspec.Raw
    depth: int = 1
    cause: UUID | None = None


class _Schedule(msgspec.Struct, tag="schedule", omit_defaults=True):
    timeout: str
    due: datetime
    number: int
    depth: int = 0
    cause: UUID | None = None


class _Unschedule(msgspec.Struct, tag="unschedule"):
    timeout: str


class _Publish(msgspec.Struct, tag="publish"):
    event: str
    version: int
    data: msgspec.Raw


class _Complete(msgspec.Struct, tag="complete"):
    pass


_Decided = _Send | _Schedule | _Unschedule | _Publish | _Complete


class StepRecord(msgspec.Struct):
    """A step as it is recorded in the stream."""

    told: Told
    decided: list[_Decided]


class Accepted(msgspec.Struct):
    """A command that was sent was accepted: its events are on the log."""

    command_id: UUID
    stream: str
    revision: int


class Parked(msgspec.Struct):
    """The message on which the process failed, and the error."""

    told: Told
    error: str


class Waits(msgspec.Struct):
    """A message that waits behind a parked one."""

    told: Told


class AbortRecord(msgspec.Struct, omit_defaults=True):
    """An abort. `missed` is folded by a process that compensates; no handler sees it.

    `answered` are commands whose answers are no longer awaited. Events up to `position` are not
    handled.
    """

    compensates: bool = False
    missed: list[Told] = []
    answered: list[UUID] = []
    decided: list[_Decided] = []
    position: int | None = None


Lost = dict[UUID, Exception]
"""By id: commands of a process that the domain can no longer read, and why."""

read_abort = msgspec.json.Decoder(AbortRecord).decode
read_step = msgspec.json.Decoder(StepRecord).decode
read_accepted = msgspec.json.Decoder(Accepted).decode
read_parked = msgspec.json.Decoder(Parked).decode
read_waits = msgspec.json.Decoder(Waits).decode
_encode = msgspec.json.Encoder().encode


def new_record(
    event_type: str, body: msgspec.Struct, writer: str, correlation_id: str
) -> NewRecord:
    """Return a record for a process's stream."""
    metadata = {"writer": writer, "schemaVersion": "1"}
    if correlation_id:
        metadata["$correlationId"] = correlation_id
    return NewRecord(event_type, _encode(body), metadata, str(uuid4()))


def moved_record(event_type: str, data: bytes, at: At) -> bytes:
    """Return a record's data adapted for a copy of the log, where events have other positions.

    Raises:
        NotCopiedYet: see `Positions.at_known`.
    """

    def within(fields: Fields) -> None:
        if event_type == ABORTED:
            move(fields, at)
            move_each(fields, "missed", at)
        elif event_type in (*STEPS, PARKED, WAITS, DROPPED):
            move_within(fields, "told", at)

    return moved(data, within)


def step_record(told: Told, step: ProcessStep) -> StepRecord:
    """Return a step in the form that is stored.

    Raises:
        ValueError: the decision would not read back unchanged from JSON.
    """
    return StepRecord(told, [_written(each) for each in step.decided])


def abort_record(missed: list[Told], step: ProcessStep) -> AbortRecord:
    """Return the compensating step in the form that is stored.

    Raises:
        ValueError: the decision would not read back unchanged from JSON.
    """
    decided = [_written(each) for each in step.decided]
    return AbortRecord(True, missed, list(step.answered), decided, step.position)


def abort_step_of(
    registry: Registry, record: AbortRecord, happened: Sequence[Happened], lost: Lost
) -> ProcessStep:
    """Return the compensating step from its record; `happened` is what is folded."""
    return ProcessStep(
        ABORT_TRIGGER,
        (*happened, Aborted()),
        tuple(_read(registry, record.decided, lost)),
        record.position,
        tuple(record.answered),
    )


def last_position(told: Sequence[Told]) -> int | None:
    """Return the highest position among these events; None if there are none."""
    positions = (each.position for each in told if each.position is not None)
    return max(positions, default=None)


def step_of(
    definition: ProcessDefinition,
    registry: Registry,
    key: str,
    record: StepRecord,
    command: Command | None,
    lost: Lost,
) -> ProcessStep:
    """Return a step from its record. `command` is the refused one, if it handled a refusal.

    Raises:
        UnknownEventType, UnreadableEvent: the domain has changed so that the event cannot be read.
    """
    happened = happened_of(definition, registry, key, record.told, command)
    decided = tuple(_read(registry, record.decided, lost))
    return ProcessStep(record.told.trigger, tuple(happened), decided, record.told.position)


def happened_of(
    definition: ProcessDefinition, registry: Registry, key: str, told: Told, command: Command | None
) -> Sequence[Happened]:
    """Return a message as handlers take it: an upcaster may make several events of one.

    Raises:
        UnknownEventType, UnreadableEvent: the event cannot be read.
    """
    if told.timeout and told.due is not None:
        return [TimedOut(told.timeout, told.due)]
    if told.event:
        data = bytes(told.data)
        events = registry.decode(told.event, data, told.version, told.stream, told.revision)
        tenant = registry.tenant_of(told.stream)
        return [
            event
            for event in events
            if (of := definition.key_of(event)) is not None and within(tenant, of) == key
        ]
    return [CommandRejected(command, told.rule, told.detail)] if command is not None else []


def _written(decided: Decided) -> _Decided:
    match decided:
        case Sending(command_id, command, depth, cause):
            definition = type(command).__rayfold__
            payload = definition.encode_exactly(command)
            return _Send(command_id, definition.name, msgspec.Raw(payload), depth, cause)
        case Timer(name, due, number, depth, cause):
            return _Schedule(name, due, number, depth, cause)
        case Unschedule(name):
            return _Unschedule(name)
        case Publish(event):
            event_definition = type(event).__rayfold__
            data = msgspec.Raw(event_definition.encode(event))
            return _Publish(event_definition.name, event_definition.version, data)
        case Complete():
            return _Complete()


def _read(registry: Registry, decided: Sequence[_Decided], lost: Lost) -> Iterator[Decided]:
    for each in decided:
        match each:
            case _Send(command_id, name, payload, depth, cause):
                try:
                    command = registry.commands[name].decode(bytes(payload))
                except KeyError:
                    lost[command_id] = LookupError(f"no command is named {name!r}")
                except ValidationError as error:
                    lost[command_id] = error
                else:
                    yield Sending(command_id, command, depth, cause)
            case _Schedule(name, due, number, depth, cause):
                yield Timer(name, due, number, depth, cause)
            case _Unschedule(name):
                yield Unschedule(name)
            case _Publish():
                pass  # this only matters to its publication: the process does not look back
            case _Complete():
                yield Complete()
