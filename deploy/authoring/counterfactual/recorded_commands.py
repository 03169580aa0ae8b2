"""Finding recorded commands on the log from the events that they caused.

An event's metadata always has the command's id, but the command itself only if its aggregate keeps
commands. Commands sent by processes are in the processes' streams, and scheduled ones in theirs,
before their events: they are remembered until these, or a refusal, follow.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from actors.origins import PROCESSES, SCHEDULES
from actors.processes.records import COMMAND_ACCEPTED, COMMAND_REJECTED
from actors.schedules.records import ACCEPTED, CANCELLED, REFUSED, SCHEDULED
from eventstore.records import Metadata, RawRecord
from rayfold.foreign_json import UNREADABLE

OUR_PREFIXES = [PROCESSES, SCHEDULES]
"""The prefixes of streams that have commands before their events."""


class RecordedCommand(NamedTuple):
    """A command's name, and the command as JSON.

    `untimed`: it was scheduled. The fields that the runtime fills were filled when it was sent, at
    a time that was not recorded. `as_sent`: it is in the form before middleware, as a process sent
    it or as it was scheduled.
    """

    name: str
    payload: bytes
    untimed: bool = False
    as_sent: bool = False


class _Sent(msgspec.Struct):
    type: str = ""
    command_id: str = ""
    command: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


class _Told(msgspec.Struct):
    command_id: str = ""


class _Body(msgspec.Struct):
    """The relevant part of a record of a process or of a scheduled command."""

    command_id: str = ""
    told: _Told | None = None
    decided: list[_Sent] = []
    command: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_body = msgspec.json.Decoder(_Body).decode

_ENDS = (ACCEPTED, CANCELLED, REFUSED)


class RecordedCommands:
    """Finds the command of an event, if `note` was given all earlier records of `OUR_PREFIXES`."""

    def __init__(self) -> None:
        self._waiting: dict[str, RecordedCommand] = {}

    def note(self, raw: RawRecord) -> None:
        """Remember the commands of a process's or a scheduled command's record; ignore others."""
        try:
            body = _body(raw.data)
        except UNREADABLE:
            return
        if raw.stream.startswith(SCHEDULES):
            command_id = raw.stream[len(SCHEDULES) :]
            if raw.event_type == SCHEDULED:
                self._waiting[command_id] = RecordedCommand(
                    body.command, bytes(body.payload), untimed=True, as_sent=True
                )
            elif raw.event_type in _ENDS:
                self._waiting.pop(command_id, None)
            return
        for sent in body.decided:
            if sent.type == "send":
                self._waiting[sent.command_id] = RecordedCommand(
                    sent.command, bytes(sent.payload), as_sent=True
                )
        if raw.event_type == COMMAND_ACCEPTED:
            self._waiting.pop(body.command_id, None)
        elif raw.event_type == COMMAND_REJECTED and body.told:
            self._waiting.pop(body.told.command_id, None)

    def of(self, command_id: str, metadata: Metadata) -> RecordedCommand | None:
        """Return the command whose first event has this metadata; None if it was not kept."""
        sent = self._waiting.pop(command_id, None)
        if "command" in metadata and "payload" in metadata:
            return RecordedCommand(metadata["command"], metadata["payload"].encode())
        return sent
