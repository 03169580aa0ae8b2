"""Commands as the log has them, by the events that came of them.

An event's metadata has the command's id always, and the command itself only where its aggregate
keeps commands. Those that processes sent stand in the processes' streams, and scheduled ones in
theirs, before their events: they are remembered until these, or a refusal, come.
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
"""What the names of the streams begin with that have commands before their events."""


class RecordedCommand(NamedTuple):
    """A command's name and itself, as JSON.

    `untimed`: it was scheduled. The fields that the runtime fills were filled when it was sent,
    and nobody wrote down with which instant. `as_sent`: it is what a process sent, or somebody had
    scheduled, before middleware was around it.
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
    """A record of a process or of a scheduled command, as far as it matters here."""

    command_id: str = ""
    told: _Told | None = None
    decided: list[_Sent] = []
    command: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_body = msgspec.json.Decoder(_Body).decode

_ENDS = (ACCEPTED, CANCELLED, REFUSED)


class RecordedCommands:
    """Finds the command of an event; told all records of `OUR_PREFIXES` before it."""

    def __init__(self) -> None:
        self._waiting: dict[str, RecordedCommand] = {}

    def note(self, raw: RawRecord) -> None:
        """Take in a record of a process or a scheduled command; what is neither says nothing."""
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
        """Return the command that the event with this metadata began; None: it was not kept."""
        sent = self._waiting.pop(command_id, None)
        if "command" in metadata and "payload" in metadata:
            return RecordedCommand(metadata["command"], metadata["payload"].encode())
        return sent
