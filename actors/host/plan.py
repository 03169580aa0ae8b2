"""What a group commit would do to one aggregate: decided, not yet written."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass, field
from typing import Any

from actors.envelope import Done, Envelope, Outcome
from actors.errors import DecisionFailed, KeyReused, RevisionMismatch
from actors.host.entity import Entity
from actors.host.recent_commands import Seen
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from rayfold import Command, DecisionDefinition, Event, Refused
from rayfold.decision import Instance
from rayfold.event_checks import check_events, listed
from rayfold.runtime.tracing import Span
from rayfold.runtime.turns import Turn
from rayfold.unchanged import Unchanged

log = logging.getLogger(__name__)

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


@dataclass(slots=True)
class JointDecision:
    """The aggregates that a command in a mailbox reads besides the leading one."""

    definition: DecisionDefinition
    instances: tuple[Instance, ...]

    @property
    def others(self) -> tuple[Instance, ...]:
        """All aggregates except the leading one."""
        return self.instances[1:]


@dataclass(slots=True)
class PendingCommand:
    """A command in a mailbox."""

    envelope: Envelope
    command: Command
    answer: asyncio.Future[Outcome]
    attempts: int = 0
    alone: bool = False
    """Whether it is decided alone, because a command decided with it was invalid."""
    joint: JointDecision | None = None
    """Its other aggregates, if it decides over several."""
    span: Span | None = None
    """The span from arrival to outcome, if it is traced."""
    is_used: bool = False
    """Whether domain code has received this object already, and may have changed a list in it."""

    def as_sent(self) -> Command:
        """Return the command as it was sent, also when it is decided again."""
        if self.is_used:
            self.command = type(self.command).__rayfold__.decode(self.envelope.payload)
        self.is_used = True
        return self.command


@dataclass(slots=True)
class Written:
    """Done at this revision once the commit is durable; the commit gives the position."""

    revision: int


@dataclass(slots=True)
class Plan:
    """Decisions on one aggregate, made in order on speculative state.

    `verdicts` has one entry for each of `commands`. None of them is final until `records` are
    durable: even a refusal may depend on earlier decisions of the same commit.
    """

    entity: Entity
    commands: list[PendingCommand]
    state: Any
    revision: int
    verdicts: list[Written | Seen | Outcome] = field(default_factory=list)
    records: list[NewRecord] = field(default_factory=list)
    accepted: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def is_unread(self) -> bool:
        """Return whether a verdict depends on a stream that was not read and is not appended to.

        That is so for a refusal, and for a command that changes nothing.
        """
        return self.entity.optimistic and (
            self.is_unproven or any(isinstance(verdict, Exception) for verdict in self.verdicts)
        )

    @property
    def entities(self) -> tuple[Entity]:
        """The one aggregate, in the same form as `JointPlan.entities`."""
        return (self.entity,)

    @property
    def is_unproven(self) -> bool:
        """Return whether a verdict is based on a revision that no append will check."""
        return not self.records and not all(
            isinstance(verdict, Seen | KeyReused) for verdict in self.verdicts
        )

    def append(self) -> StreamAppend:
        """Return the records, with the expected revision of their stream."""
        return StreamAppend(self.entity.stream, self.entity.expected, self.records)

    def commit(self, position: int, last_revision: int | None = None) -> None:
        """Update the entity: the records are durable, the last of them at `position`.

        `last_revision`: see `Appended`.
        """
        entity = self.entity
        if self.records:
            if last_revision is not None and last_revision != self.revision:
                self._renumber(last_revision - self.revision)
            entity.optimistic = entity.optimistic and entity.revision < 0
            entity.state = self.state
            entity.revision = self.revision
            entity.position = position
            at = entity.recent.now()
            for command_id, (fingerprint, revision) in self.accepted.items():
                entity.recent.add(command_id, Seen(fingerprint, revision, position, True, at))

    def _renumber(self, shift: int) -> None:
        self.revision += shift
        for verdict in self.verdicts:
            if isinstance(verdict, Written):
                verdict.revision += shift
        self.accepted = {
            command_id: (fingerprint, revision + shift)
            for command_id, (fingerprint, revision) in self.accepted.items()
        }


def plan(entity: Entity, commands: list[PendingCommand], writer: str, turn: Turn) -> Plan:
    """Decide the first of `commands`, then further ones in order while the turn lasts.

    Pure: the entity is not changed.
    """
    planned = Plan(entity, commands, entity.state, entity.revision)
    for at, each in enumerate(commands, 1):
        planned.verdicts.append(decide(planned, each, writer))
        if turn.over:
            planned.commands = commands[:at]
            break
    return planned


def decide(planned: Plan, pending: PendingCommand, writer: str) -> Written | Seen | Outcome:
    """Decide one command on the state that the earlier ones would leave."""
    envelope = pending.envelope
    seen = planned.entity.recent.get(envelope.command_id)
    if seen is not None:
        same = seen.fingerprint == envelope.fingerprint
        return seen if same else KeyReused(envelope.command_id)
    accepted = planned.accepted.get(envelope.command_id)
    if accepted is not None:
        same = accepted[0] == envelope.fingerprint
        return Written(accepted[1]) if same else KeyReused(envelope.command_id)
    wanted = envelope.expected_revision
    if wanted is not None and wanted != planned.revision:
        return RevisionMismatch(wanted, None if planned.revision < 0 else planned.revision)
    aggregate = planned.entity.aggregate
    try:
        with Unchanged(aggregate, planned.state):
            command = pending.as_sent()
            events = listed(aggregate.decide(planned.state, command))
            check_events(events, aggregate, command)
            keeps = aggregate.keep_commands
            records = [  # before the fold, which may change a list inside an event
                record(event, envelope, writer, index, keeps=keeps)
                for index, event in enumerate(events)
            ]
            state = aggregate.fold(events, planned.state)
    except Refused as refusal:
        return refusal
    except (Exception, SystemExit) as error:
        return decision_failed(error, envelope, planned.revision)
    planned.state = state
    planned.revision += len(events)
    planned.records += records
    if events:
        planned.accepted[envelope.command_id] = (envelope.fingerprint, planned.revision)
    if planned.records:
        return Written(planned.revision)
    return Done(planned.revision, planned.entity.position)


def decision_failed(error: BaseException, envelope: Envelope, revision: int) -> DecisionFailed:
    """Log that domain code failed on a command; return the command's outcome.

    Only that command fails, not the whole commit.
    """
    log.error(
        "a decision failed",
        exc_info=error,
        extra={
            "command": envelope.command,
            "stream": envelope.stream,
            "revision": revision,
            "command_id": envelope.command_id,
            "correlation_id": envelope.correlation_id or envelope.command_id,
            **({"traceparent": envelope.traceparent} if envelope.traceparent else {}),
        },
    )
    return DecisionFailed(f"{envelope.command} failed: {type(error).__name__}: {error}")


def record(
    event: Event,
    envelope: Envelope,
    writer: str,
    index: int,
    streams: str = "",
    *,
    keeps: bool = False,
) -> NewRecord:
    """Return the record to append for a command's event number `index`.

    `streams` is JSON: the streams that a decision over several aggregates read, with their
    revisions after it. `keeps`: the command itself is stored with its first event; see
    `Aggregate.keep_commands`.

    Raises:
        ValueError: the event would not read back from the log unchanged.
    """
    definition = type(event).__rayfold__
    metadata = {
        "$correlationId": envelope.correlation_id or envelope.command_id,
        "$causationId": envelope.causation_id or envelope.command_id,
        "commandId": envelope.command_id,
        "fingerprint": envelope.fingerprint,
        "principal": envelope.principal,
        "writer": writer,
        "schemaVersion": str(definition.version),
    }
    if envelope.traceparent:
        metadata["traceparent"] = envelope.traceparent
    if envelope.tenant:
        metadata["tenant"] = envelope.tenant
    if streams:
        metadata["streams"] = streams
    if keeps and index == 0:
        metadata["command"] = envelope.command
        metadata["payload"] = envelope.payload.decode()
    return NewRecord(
        definition.name,
        definition.encode(event),
        metadata,
        _event_id(envelope, index),
    )


def _event_id(envelope: Envelope, index: int) -> str:
    """Return an event id that is the same for a repeat, so that the store recognises it as well.

    It includes the fingerprint: the same command id with another payload is not a repeat.
    """
    name = f"{envelope.command_id}/{envelope.fingerprint}/{index}"
    text = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    # A version 8 ("custom") UUID: RFC 9562, section 5.8.
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"
