"""The stream `schedule-COMMAND_ID` of a command that is sent later: what it says, one at a time.

The first record is the command. What comes next ends the choice: it is due, or it is cancelled;
both expect that neither is there yet, so that a command that was cancelled is never sent, and one
that is due cannot be cancelled any more. Then what became of it.
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
"""What ends it. A record of any other type is somebody else's, and says nothing of it."""


class ScheduledCommand(msgspec.Struct, omit_defaults=True):
    """What is sent, and when; the fields are those of `Envelope`.

    `role` and `permissions` are the caller's, as they were when the command was taken: middleware
    is told of them when it is sent.
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
    """Where the command's events are. `revisions` are of a decision over several aggregates."""

    revision: int
    position: int
    revisions: dict[str, int] = {}


class Refusal(msgspec.Struct):
    """Why there are none."""

    rule: str
    detail: str


class Nothing(msgspec.Struct):
    """It happened; there is nothing to say about it."""


class Cancellation(msgspec.Struct):
    """Who did not want it any more."""

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
    """Return a record's data as a copy of the log has it.

    Raises:
        NotCopiedYet: see `Positions.at_known`.
    """
    if event_type != ACCEPTED:  # a command may have any field: it is the client's
        return data
    return moved(data, lambda fields: move(fields, at))


_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass
class OpenSchedule:
    """As much of one as it takes to send it in time. `due_at` is its position, once it was due."""

    command: str = ""
    stream: str = ""
    not_before: datetime = _NEVER
    principal: str = ""
    due_at: int | None = None
    done: bool = False
    error: str = ""
    """Why it is not sent: another client wrote what nobody can read."""

    @property
    def is_open(self) -> bool:
        """Whether it is to be sent, or has no answer yet."""
        return not self.done

    @property
    def due(self) -> datetime | None:
        """When it is to be sent; None where it was."""
        return self.not_before if self.due_at is None else None

    @classmethod
    def begins_with(cls, raw: RawRecord, *, is_open: bool) -> bool:
        """Return whether a record schedules the command; after a deletion its revision is not 0."""
        return raw.event_type == SCHEDULED

    def fold(self, raw: RawRecord) -> None:
        """Take in a record of its stream."""
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
