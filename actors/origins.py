"""What the records of processes and of scheduled commands say about causes, for operators.

Read leniently: what another release has written is shown as far as it can be read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from actors.processes.records import COMMAND_ACCEPTED, COMMAND_REJECTED
from actors.schedules.records import PREFIX, SCHEDULED
from eventstore.correlation import Origin, origin_of_event
from eventstore.records import RawRecord
from rayfold.foreign_json import UNREADABLE
from rayfold.process import ProcessDefinition

PROCESSES = "process-"
SCHEDULES = PREFIX
"""The prefixes of their stream names."""


class _Told(msgspec.Struct):
    event: str = ""
    stream: str = ""
    revision: int = -1
    timeout: str = ""
    command_id: str = ""
    rule: str = ""
    detail: str = ""
    caused_by: str = ""
    correlation_id: str = ""


class _Decision(msgspec.Struct):
    type: str = ""
    command_id: str = ""
    command: str = ""
    cause: str | None = None
    timeout: str = ""
    event: str = ""


class _Body(msgspec.Struct):
    told: _Told | None = None
    missed: list[_Told] = []
    decided: list[_Decision] = []
    command_id: str = ""
    stream: str = ""
    revision: int = -1
    error: str = ""


class _Scheduled(msgspec.Struct):
    command: str = ""
    not_before: str = ""
    principal: str = ""
    causation_id: str = ""
    traceparent: str = ""
    rule: str = ""
    detail: str = ""


_body = msgspec.json.Decoder(_Body).decode
_scheduled = msgspec.json.Decoder(_Scheduled).decode


class Sent(NamedTuple):
    """A command that a process has decided to send."""

    command_id: str
    command: str
    caused_by: str


class StepRead(NamedTuple):
    """A record of a process: what it handled, and what it did.

    It handled an event (`stream`, `revision`), a `timeout`, or the outcome of `command_id`.
    """

    process: str
    key: str
    type: str
    stream: str
    revision: int
    timeout: str
    command_id: str
    caused_by: tuple[str, ...]
    correlation_id: str
    sends: tuple[Sent, ...]
    accepted: bool
    rule: str
    detail: str
    error: str


def origin_of(raw: RawRecord, processes: Iterable[ProcessDefinition]) -> Origin:
    """Return the origin of any record of a domain."""
    if raw.stream.startswith(SCHEDULES):
        said = schedule_read(raw)
        cause = said.get("causation_id", "")
        command_id = raw.stream[len(SCHEDULES) :]
        return Origin(origin_of_event(raw).correlation_id, command_id, (cause,) if cause else ())
    if not raw.stream.startswith(PROCESSES):
        return origin_of_event(raw)
    step = step_read(raw, processes)
    if step is None:
        return Origin(origin_of_event(raw).correlation_id)
    named = (*step.caused_by, step.command_id) if step.command_id else step.caused_by
    sends = tuple(each.command_id for each in step.sends)
    return Origin(step.correlation_id, "", named, sends)


def step_read(raw: RawRecord, processes: Iterable[ProcessDefinition]) -> StepRead | None:
    """Return the step that a process's record describes; None if it is none, or cannot be read."""
    known = [each for each in processes if raw.stream.startswith(each.prefix)]
    if not known:
        return None
    definition = max(known, key=lambda each: len(each.prefix))
    try:
        body = _body(raw.data)
    except UNREADABLE:
        return None
    told = body.told or _Told()
    causes = [told.caused_by, *(each.caused_by for each in body.missed)]
    return StepRead(
        definition.name,
        raw.stream[len(definition.prefix) :],
        raw.event_type,
        told.stream,
        told.revision,
        told.timeout,
        told.command_id or body.command_id,
        tuple(dict.fromkeys(each for each in causes if each)),
        origin_of_event(raw).correlation_id or told.correlation_id,
        tuple(
            Sent(each.command_id, each.command, each.cause or "")
            for each in body.decided
            if each.type == "send"
        ),
        raw.event_type == COMMAND_ACCEPTED,
        told.rule if raw.event_type == COMMAND_REJECTED else "",
        told.detail if raw.event_type == COMMAND_REJECTED else "",
        body.error,
    )


def schedule_read(raw: RawRecord) -> dict[str, Any]:
    """Return the content of a scheduled command's record, without its payload."""
    try:
        said = msgspec.to_builtins(_scheduled(raw.data))
    except UNREADABLE:
        return {}
    found: dict[str, Any] = {name: value for name, value in said.items() if value}
    return found if raw.event_type == SCHEDULED else {**found, "became": raw.event_type}
