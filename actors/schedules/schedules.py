"""What gateways do with commands that are sent later: take, cancel, tell what became of them."""

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
    DUE,
    PREFIX,
    REFUSED,
    SCHEDULED,
    Cancellation,
    ScheduledCommand,
    new_record,
    read_acceptance,
    read_refusal,
    read_scheduled,
)
from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.port import BEING_FORGOTTEN, Appended, InvalidAppend, Log, StreamAppend
from eventstore.records import RawRecord

_STATUS = {SCHEDULED: "scheduled", DUE: "processing", CANCELLED: "cancelled"}


class Schedules:
    """On the log alone: any gateway may be asked."""

    def __init__(self, store: Log) -> None:
        """`store` stays whose it is."""
        self._store = store

    async def schedule(
        self,
        envelope: Envelope,
        not_before: datetime,
        role: str = "",
        permissions: Collection[str] = (),
    ) -> dict[str, Any]:
        """Keep a command until then; return what is known of it once it is durable.

        `role` and `permissions` are those of whoever asks.

        The same command under the same id again is the first one, whatever became of it.

        Raises:
            InvalidCommand: the store never takes it: it is too large, say.
            KeyReused: the command id stands for another command, or another time.
            NoSuchSchedule: it stood for one, and its stream was deleted for good.
            EventStoreUnavailable: it may not have been kept; safe to try again.
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
        known, last = await self._read(command_id)
        if (known.fingerprint, known.not_before) != (scheduled.fingerprint, scheduled.not_before):
            raise KeyReused(command_id)
        return _described(command_id, known, last)

    async def cancel(self, command_id: str, principal: str) -> dict[str, Any]:
        """Do not send it; return what is known of it. Cancelled twice is cancelled.

        Raises:
            NoSuchSchedule: none was scheduled under that id.
            TooLate: it is being sent, or was.
            EventStoreUnavailable: it may not have been cancelled.
        """
        record = new_record(CANCELLED, Cancellation(principal), command_id)
        known, last = await self._read(command_id)
        if last.event_type == SCHEDULED and await self._append(command_id, last.revision, record):
            return _told(command_id, known, "cancelled")
        known, last = await self._read(command_id)
        if last.event_type != CANCELLED:
            raise TooLate(command_id)
        return _told(command_id, known, "cancelled")

    async def about(self, command_id: str) -> dict[str, Any] | None:
        """Return what became of a command that was scheduled; None of one that was not.

        Raises:
            EventStoreUnavailable: the log does not say.
        """
        try:
            known, last = await self._read(command_id)
        except NoSuchSchedule:
            return None
        return _described(command_id, known, last)

    async def _append(self, command_id: str, expected: int | None, record: Any) -> bool:
        append = StreamAppend(f"{PREFIX}{command_id}", expected, [record])
        try:
            [result] = await self._store.append([append])
        except StoreUnavailable as error:
            raise EventStoreUnavailable(str(error)) from error
        if result == BEING_FORGOTTEN:
            raise EventStoreUnavailable(BEING_FORGOTTEN.reason)
        if isinstance(result, InvalidAppend):
            raise InvalidCommand(f"the event store never takes it: {result.reason}")
        return isinstance(result, Appended)

    async def _read(self, command_id: str) -> tuple[ScheduledCommand, RawRecord]:
        records: list[RawRecord] = []
        try:
            async for raw in self._store.read_stream(f"{PREFIX}{command_id}"):
                records.append(raw)
        except StreamTombstoned:  # by somebody else
            records = []
        except StoreUnavailable as error:
            raise EventStoreUnavailable(str(error)) from error
        if not records:
            raise NoSuchSchedule(command_id)
        return read_scheduled(records[0].data), records[-1]


def _told(command_id: str, known: ScheduledCommand, status: str) -> dict[str, Any]:
    return {
        "command_id": command_id,
        "status": status,
        "stream": known.stream,
        "command": known.command,
        "not_before": known.not_before,
    }


def _described(command_id: str, known: ScheduledCommand, last: RawRecord) -> dict[str, Any]:
    if last.event_type == ACCEPTED:
        found = read_acceptance(last.data)
        told = _told(command_id, known, "accepted")
        return {**told, "revision": found.revision, "position": found.position}
    if last.event_type == REFUSED:
        refusal = read_refusal(last.data)
        told = _told(command_id, known, "rejected")
        return {**told, "code": refusal.rule, "detail": refusal.detail}
    return _told(command_id, known, _STATUS[last.event_type])
