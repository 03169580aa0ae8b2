"""The state of a scheduled command, read from its stream."""

from __future__ import annotations

from typing import NamedTuple

from actors.schedules.records import (
    DUE,
    ENDS,
    PREFIX,
    SCHEDULED,
    ScheduledCommand,
    read_scheduled,
)
from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from eventstore.records import RawRecord
from rayfold.foreign_json import UNREADABLE


class ScheduleState(NamedTuple):
    """`command` is None if it cannot be read: another client or another release has written it.

    `revision` is the stream's last, perhaps of another client's record. `due_at` is the position at
    which it was recorded as due, `end` its outcome.
    """

    command: ScheduledCommand | None
    error: str
    revision: int
    due_at: int | None
    end: RawRecord | None


async def read_schedule(log: Log, command_id: str) -> ScheduleState | None:
    """Return a scheduled command; None if there is none, or its stream was deleted.

    Raises:
        StoreUnavailable: no answer.
    """
    records: list[RawRecord] = []
    try:
        async for raw in log.read_stream(f"{PREFIX}{command_id}"):
            records.append(raw)
    except StreamTombstoned:
        return None
    if not records:
        return None
    command, error = None, f"its stream begins with a {records[0].event_type}"
    if records[0].event_type == SCHEDULED:
        try:
            command, error = read_scheduled(records[0].data), ""
        except UNREADABLE as unreadable:
            error = f"it cannot be read: {unreadable}"
    due = (raw.position for raw in records if raw.event_type == DUE)
    ends = (raw for raw in records if raw.event_type in ENDS)
    return ScheduleState(command, error, records[-1].revision, next(due, None), next(ends, None))
