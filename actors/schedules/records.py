"""The records of `schedule-COMMAND_ID`, the stream of a scheduled command.

The first record is the command. The second says either that it is due or that it is cancelled. Both
are appended at the same expected revision, so a cancelled command is never sent, and one that is
due can no longer be cancelled. The last record is its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from eventstore.positions import At, move, moved
from eventstore.records import NewRecord, RawRecord
from rayfold.foreign_json import UNREADABLE

PREFIX = "schedule-"

SCHEDULED = "CommandScheduled"
DUE = "ScheduledCommandDue"
CANCELLED = "ScheduledCommandCancelled"
ACCEPTED = "ScheduledCommandAccepted"
REFUSED = "ScheduledCommandRefused"

ENDS = (CANCELLED, ACCEPTED, REFUSED)
"""The types that end it. A record of any other type is another client's, and is ignored."""


class ScheduledCommand(msgspec.Struct, omit_defaults=True):
    """A command and when it is sent; the fields are those of `Envelope`.

    `role` and `permissions` are those of the caller when the command was scheduled: middleware gets
    them when it is sent.
    """

    command: str
    stream: str
    payload: msgspec.Raw
    fingerprint: str
    not_before: datetime
    expected_revision: int | None = None
    principal: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""
    role: str = ""
    permissions: list[str] = []


class Acceptance(msgspec.Struct, omit_defaults=True):
    """The receipt of the command's events. `revisions` is set for a decision over several
    aggregates.
    """

    revision: int
    position: int
    revisions: dict[str, int] = {}


class Refusal(msgspec.Struct):
    """Why it has no events."""

    rule: str
    detail: str


class Nothing(msgspec.Struct):
    """A record without content."""


class Cancellation(msgspec.Struct):
    """Who cancelled it."""

    principal: str


read_scheduled = msgspec.json.Decoder(ScheduledCommand).decode
read_acceptance = msgspec.json.Decoder(Acceptance).decode
read_refusal = msgspec.json.Decoder(Refusal).decode


class _When(msgspec.Struct):
    command: str
    stream: str
    not_before: datetime
    principal: str = ""


_read_when = msgspec.json.Decoder(_When).decode


def new_record(event_type: str, body: msgspec.Struct, correlation_id: str = "") -> NewRecord:
    """Return a record for such a stream."""
    metadata = {"$correlationId": correlation_id} if correlation_id else {}
    return NewRecord(event_type, msgspec.json.encode(body), metadata, str(uuid4()))


def moved_record(event_type: str, data: bytes, at: At) -> bytes:
    """Return a record's data adapted for a copy of the log.

    Raises:
        NotCopiedYet: see `Positions.at_known`.
    """
    if event_type != ACCEPTED:  # a command may have any field, as it is the client's
        return data
    return moved(data, lambda fields: move(fields, at))


_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass
class OpenSchedule:
    """What is needed to send a scheduled command in time. `due_at` is the position at which it was
    recorded as due.
    """

    command: str = ""
    stream: str = ""
    not_before: datetime = _NEVER
    principal: str = ""
    due_at: int | None = None
    done: bool = False
    error: str = ""
    """Why it is not sent: another client wrote a record that cannot be read."""

    @property
    def is_open(self) -> bool:
        """Whether it is still to be sent, or has no answer yet."""
        return not self.done

    @property
    def due(self) -> datetime | None:
        """When it is to be sent; None if it was sent."""
        return self.not_before if self.due_at is None else None

    @classmethod
    def begins_with(cls, raw: RawRecord, *, is_open: bool) -> bool:
        """Return whether a record schedules the command; after a deletion its revision is not 0."""
        return raw.event_type == SCHEDULED

    def fold(self, raw: RawRecord) -> None:
        """Apply a record of its stream."""
        if raw.event_type == SCHEDULED:
            try:
                found = _read_when(raw.data)
            except UNREADABLE as unreadable:
                self.error = f"it cannot be read: {unreadable}"
                return
            self.command, self.stream = found.command, found.stream
            self.not_before, self.principal = found.not_before, found.principal
        elif raw.event_type == DUE:
            self.due_at = raw.position
        elif raw.event_type in ENDS:
            self.done = True
