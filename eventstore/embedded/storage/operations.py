"""Writes as the writer thread runs them: check, then stage, all or nothing.

An operation's ``apply`` must not stage anything before every check has passed. A refusal is a
result, not an exception: it too is answered only after the group's commit, since it may rest on an
event of the same group that a crash would still undo.
"""

import uuid
from dataclasses import dataclass
from typing import Protocol

from eventstore.embedded.protocol.constants import (
    MAX,
    METADATA_TYPE,
    NO_STREAM,
    SOFT_DELETED,
    STREAM_EXISTS,
    TOMBSTONE_TYPE,
    TOMBSTONED,
)
from eventstore.embedded.storage.check import Decision, Verdict, check
from eventstore.embedded.storage.event import Event, Proposed
from eventstore.embedded.storage.metadata import with_truncate_before
from eventstore.embedded.storage.names import is_metastream
from eventstore.embedded.storage.write_transaction import StreamState, WriteTransaction


class Operation(Protocol):
    """One atomic write."""

    def apply(self, transaction: WriteTransaction) -> object:
        """Decide and stage; the value returned is the answer once the group is on disk."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Writes nothing; is answered after everything that was queued before it."""

    def apply(self, transaction: WriteTransaction) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Append:
    """Events for one stream."""

    stream: str
    expected: int
    events: list[Proposed]

    def apply(self, transaction: WriteTransaction) -> Verdict:
        """Return the verdict with the stream's last revision and position after the append."""
        state = transaction.stream(self.stream)
        events = self.events
        verdict = check(transaction, state, self.expected, [event.id for event in events])
        if verdict.decision is not Decision.OK or not events:
            return verdict
        revive = stage_revival(transaction, state)
        for event in events:
            recorded = transaction.stage(state, event)
        finish_revival(transaction, state, revive)
        return Verdict(Decision.OK, recorded.revision, recorded.position)


def stage_revival(
    transaction: WriteTransaction, state: StreamState
) -> tuple[StreamState, int] | None:
    """Find out which stream an append undeletes, and from which revision that is readable."""
    if is_metastream(state.name):
        base = transaction.stream(state.name[2:])
        if base.soft_deleted:
            return base, base.last + 1
        return None
    return (state, state.last + 1) if state.soft_deleted else None


def finish_revival(
    transaction: WriteTransaction, state: StreamState, revival: tuple[StreamState, int] | None
) -> None:
    """Stage one more ``$metadata`` event, with the present keys and the new ``$tb``."""
    if revival is None:
        return
    base, first = revival
    present = transaction.latest_metadata(base.name) or b"{}"
    stage_metadata(transaction, base, with_truncate_before(present, first))


def stage_metadata(transaction: WriteTransaction, base: StreamState, data: bytes) -> Event:
    """Write a ``$metadata`` event for a stream, unchecked."""
    event = Proposed(uuid.uuid4().bytes, METADATA_TYPE, True, data, b"")
    return transaction.stage(transaction.stream("$$" + base.name), event)


@dataclass(frozen=True, slots=True)
class Delete:
    """A soft delete: the stream reads as not found until something is appended to it."""

    stream: str
    expected: int

    def apply(self, transaction: WriteTransaction) -> Verdict:
        """Return the verdict with the position of the ``$metadata`` event."""
        state = transaction.stream(self.stream)
        if state.last == NO_STREAM and transaction.stream("$$" + self.stream).last == NO_STREAM:
            return Verdict(Decision.WRONG, NO_STREAM)
        verdict = check(transaction, state, self.expected, [uuid.uuid4().bytes])
        if verdict.decision is not Decision.OK:
            return verdict
        recorded = stage_metadata(transaction, state, b'{"$tb":%d}' % MAX)
        return Verdict(Decision.OK, recorded.revision, recorded.position)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A hard delete: the name can never be used again."""

    stream: str
    expected: int

    def apply(self, transaction: WriteTransaction) -> Verdict:
        """Return the verdict with the position of the tombstone event."""
        state = transaction.stream(self.stream)
        event_id = uuid.uuid4().bytes
        verdict = check(transaction, state, self.expected, [event_id])
        if verdict.decision is not Decision.OK:
            return verdict
        event = Proposed(event_id, TOMBSTONE_TYPE, False, b"", b"")
        recorded = transaction.stage(state, event, revision=MAX)
        return Verdict(Decision.OK, MAX, recorded.position)


@dataclass(frozen=True, slots=True)
class Violation:
    """A stream of a multi-stream write that is not in the demanded state."""

    index: int
    stream: str
    expected: int
    actual: int


@dataclass(slots=True)
class StreamWrite:
    """One stream's part in a multi-stream write; no ids means it is only checked."""

    stream: str
    expected: int
    ids: list[bytes]


@dataclass(frozen=True, slots=True)
class MultiAppend:
    """Events for several streams, interleaved as given; atomic."""

    streams: list[StreamWrite]
    """Checks first, then streams written without one; violations refer to this order."""
    events: list[tuple[int, Proposed]]
    """Index into ``streams``, and the event."""

    def apply(self, transaction: WriteTransaction) -> "MultiResult":
        """Return revisions per written stream, or what stands in the way."""
        transaction.prefetch([write.stream for write in self.streams])
        states = [transaction.stream(write.stream) for write in self.streams]
        verdicts = [
            _check_multi(transaction, state, write)
            for state, write in zip(states, self.streams, strict=True)
        ]
        written = [
            verdict for verdict, write in zip(verdicts, self.streams, strict=True) if write.ids
        ]
        if any(verdict.decision is not Decision.OK for verdict in verdicts):
            if written and all(verdict.decision is Decision.IDEMPOTENT for verdict in written):
                position = max(verdict.position for verdict in written)
                return MultiResult([verdict.revision for verdict in verdicts], position, [])
            return MultiResult([], 0, self._violations(states, verdicts))
        revivals = [
            stage_revival(transaction, state) if write.ids else None
            for state, write in zip(states, self.streams, strict=True)
        ]
        position = 0
        for index, event in self.events:
            position = transaction.stage(states[index], event).position
        revisions = [state.last for state in states]
        for state, revival in zip(states, revivals, strict=True):
            finish_revival(transaction, state, revival)
        return MultiResult(revisions, position, [])

    def _violations(self, states: list[StreamState], verdicts: list[Verdict]) -> list[Violation]:
        return [
            Violation(index, write.stream, write.expected, _actual(state, write, verdict))
            for index, (state, write, verdict) in enumerate(
                zip(states, self.streams, verdicts, strict=True)
            )
            if verdict.decision is not Decision.OK
        ]


@dataclass(frozen=True, slots=True)
class MultiResult:
    """Last revision per stream in the order of the request; or the violations."""

    revisions: list[int]
    position: int
    violations: list[Violation]


def _check_multi(transaction: WriteTransaction, state: StreamState, write: StreamWrite) -> Verdict:
    expected = write.expected
    if expected == TOMBSTONED:
        if state.tombstoned:
            return Verdict(Decision.DELETED if write.ids else Decision.OK, state.last)
        return Verdict(Decision.WRONG, state.last)
    return check(transaction, state, expected, write.ids)


def _actual(state: StreamState, write: StreamWrite, verdict: Verdict) -> int:
    """Return the state to report. "Soft-deleted" is known only to the check that looked for it."""
    if state.tombstoned:
        return TOMBSTONED
    if state.soft_deleted and write.expected == STREAM_EXISTS:
        return SOFT_DELETED
    return state.last
