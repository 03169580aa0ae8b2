"""What a runner reads at its start: as much of each open process as is needed to resume it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.processes.records import (
    ABORTED,
    COMMAND_ACCEPTED,
    DROPPED,
    PARKED,
    STEPS,
    WAITS,
    AbortRecord,
    Told,
    read_abort,
    read_accepted,
    read_parked,
    read_step,
    read_waits,
)
from eventstore.records import RawRecord
from rayfold.foreign_json import UNREADABLE


@dataclass
class OpenProcess:
    """What is to be done for a process, known without the domain's code."""

    ended: bool = False
    unanswered: set[UUID] = field(default_factory=set)
    timers: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    parked: list[str] = field(default_factory=list)
    error: str = ""
    unreadable: bool = False
    """Whether it cannot be resumed, because another client has written to its stream."""

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen to it."""
        return not self.ended or bool(self.unanswered)

    @property
    def due(self) -> datetime | None:
        """When its next timeout is due, if any."""
        return min((due for _, due in self.timers.values()), default=None)

    @classmethod
    def begins_with(cls, raw: RawRecord, *, is_open: bool) -> bool:
        """Return whether a record is the first of its stream.

        After a deletion the first revision is not 0. A process that has ended decides nothing more
        and cannot fail.
        """
        return raw.revision == 0 or (raw.event_type in (*STEPS, PARKED) and not is_open)

    def fold(self, raw: RawRecord) -> None:
        """Apply a record of its stream."""
        try:
            self._fold(raw)
        except UNREADABLE:
            self.unreadable = True

    def _fold(self, raw: RawRecord) -> None:
        if raw.event_type in STEPS:
            self._step(raw)
        elif raw.event_type == COMMAND_ACCEPTED:
            self.unanswered.discard(read_accepted(raw.data).command_id)
        elif raw.event_type == PARKED:
            parked = read_parked(raw.data)
            if parked.told.trigger not in self.parked:
                self.parked.insert(0, parked.told.trigger)
            self.error = parked.error
        elif raw.event_type == WAITS:
            self.parked.append(read_waits(raw.data).told.trigger)
        elif raw.event_type == DROPPED:
            self._mended(read_waits(raw.data).told.trigger)
        elif raw.event_type == ABORTED:
            self._aborted(read_abort(raw.data))

    def _aborted(self, record: AbortRecord) -> None:
        self.timers.clear()
        self.parked.clear()
        self.error = ""
        if record.compensates:
            self.unanswered -= {*record.answered}
            self._decided(record.decided)
        else:
            self.ended = True
            self.unanswered.clear()

    def _step(self, raw: RawRecord) -> None:
        record = read_step(raw.data)
        self._told(record.told)
        self._decided(record.decided)

    def _decided(self, decided: Sequence[Any]) -> None:
        for each in decided:
            match each.__struct_config__.tag:
                case "send":
                    self.unanswered.add(each.command_id)
                case "schedule":
                    self.timers[each.timeout] = (each.number, each.due)
                case "unschedule":
                    self.timers.pop(each.timeout, None)
                case "complete":
                    self.ended = True
                    self.timers.clear()

    def _told(self, told: Told) -> None:
        if told.command_id:
            self.unanswered.discard(UUID(told.command_id))
        if told.timeout and self.timers.get(told.timeout, (0,))[0] == told.number:
            del self.timers[told.timeout]
        self._mended(told.trigger)

    def _mended(self, trigger: str) -> None:
        if self.parked and self.parked[0] == trigger:
            del self.parked[0]
            self.error = ""
