"""Scheduled commands for gateways: accept them, cancel them, and return their outcome."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.envelope import Envelope
from actors.errors import (
    EventStoreUnavailable,
    InvalidCommand,
    KeyReused,
    NoSuchSchedule,
    TooLate,
)
from actors.schedules.records import (
    ACCEPTED,
    CANCELLED,
    PREFIX,
    SCHEDULED,
    Cancellation,
    ScheduledCommand,
    new_record,
    read_acceptance,
    read_refusal,
)
from actors.schedules.schedule_state import ScheduleState, read_schedule
from eventstore.errors import StoreUnavailable
from eventstore.port import BEING_FORGOTTEN, Appended, InvalidAppend, Log, StreamAppend


class Schedules:
    """Uses only the log, so that any gateway can be asked."""

    def __init__(self, log: Log) -> None:
        """`log` is not closed by this object."""
        self._log = log

    async def schedule(
        self,
        envelope: Envelope,
        not_before: datetime,
        role: str = "",
        permissions: Collection[str] = (),
    ) -> dict[str, Any]:
        """Schedule a command; return what is known about it once it is durable.

        `role` and `permissions` are those of the caller.

        Scheduling the same command again under the same id returns the first one, whatever its
        outcome.

        Raises:
            InvalidCommand: the store will never accept it, as it is too large for example.
            KeyReused: the command id was used for another command, or another time.
            NoSuchSchedule: it was used before, and that stream was deleted for good.
            EventStoreUnavailable: it may not have been scheduled; it is safe to try again.
        """
        command_id = envelope.command_id
        scheduled = ScheduledCommand(
            envelope.command,
            envelope.stream,
            msgspec.Raw(envelope.payload),
            envelope.fingerprint,
            not_before.astimezone(UTC),
            envelope.expected_revision,
            envelope.principal,
            envelope.correlation_id,
            envelope.causation_id,
            envelope.traceparent,
            role,
            sorted(permissions),
        )
        record = new_record(SCHEDULED, scheduled, envelope.correlation_id or command_id)
        if await self._append(command_id, None, record):
            return _told(command_id, scheduled, "scheduled")
        state = await self._read(command_id)
        known = state.command
        wanted = scheduled.fingerprint, scheduled.not_before
        if known is None or (known.fingerprint, known.not_before) != wanted:
            raise KeyReused(command_id)
        return _described(command_id, known, state)

    async def cancel(self, command_id: str, principal: str) -> dict[str, Any]:
        """Cancel a scheduled command; return what is known about it. Cancelling twice is allowed.

        Raises:
            NoSuchSchedule: none was scheduled under that id.
            TooLate: it is being sent, or was.
            EventStoreUnavailable: it may not have been cancelled.
        """
        record = new_record(CANCELLED, Cancellation(principal), command_id)
        while True:
            state = await self._read(command_id)
            if state.end is not None and state.end.event_type == CANCELLED:
                break
            if state.end is not None or state.due_at is not None:
                raise TooLate(command_id)
            if await self._append(command_id, state.revision, record):
                break
        return _told(command_id, state.command, "cancelled")

    async def about(self, command_id: str) -> dict[str, Any] | None:
        """Return the state of a scheduled command; None if it was not scheduled.

        Raises:
            EventStoreUnavailable: the log cannot be read.
        """
        try:
            state = await self._read(command_id)
        except NoSuchSchedule:
            return None
        return None if state.command is None else _described(command_id, state.command, state)

    async def _append(self, command_id: str, expected: int | None, record: Any) -> bool:
        append = StreamAppend(f"{PREFIX}{command_id}", expected, [record])
        try:
            [result] = await self._log.append([append])
        except StoreUnavailable as error:
            raise EventStoreUnavailable.because(error) from error
        if result == BEING_FORGOTTEN:
            raise EventStoreUnavailable(BEING_FORGOTTEN.reason)
        if isinstance(result, InvalidAppend):
            raise InvalidCommand(f"the event store refuses it for good: {result.reason}")
        return isinstance(result, Appended)

    async def _read(self, command_id: str) -> ScheduleState:
        try:
            state = await read_schedule(self._log, command_id)
        except StoreUnavailable as error:
            raise EventStoreUnavailable.because(error) from error
        if state is None:
            raise NoSuchSchedule(command_id)
        return state


def _told(command_id: str, known: ScheduledCommand | None, status: str) -> dict[str, Any]:
    return {
        "command_id": command_id,
        "status": status,
        "stream": known.stream if known else "",
        "command": known.command if known else "",
        "not_before": known.not_before if known else None,
    }


def _described(command_id: str, known: ScheduledCommand, state: ScheduleState) -> dict[str, Any]:
    end = state.end
    if end is None:
        status = "scheduled" if state.due_at is None else "processing"
        return _told(command_id, known, status)
    if end.event_type == ACCEPTED:
        found = read_acceptance(end.data)
        told = _told(command_id, known, "accepted")
        revisions = {"revisions": found.revisions} if found.revisions else {}
        return {**told, "revision": found.revision, "position": found.position, **revisions}
    if end.event_type == CANCELLED:
        return _told(command_id, known, "cancelled")
    refusal = read_refusal(end.data)
    told = _told(command_id, known, "rejected")
    return {**told, "code": refusal.rule, "detail": refusal.detail}
