"""Tracing a command: its events, their processing, and the commands that they led to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from actors.envelope import Done
from actors.origins import (
    PROCESSES,
    SCHEDULES,
    StepRead,
    origin_of,
    schedule_read,
    step_read,
)
from eventstore.correlation import Correlated, Origin, correlated
from eventstore.one_record import record_at
from eventstore.port import Log
from eventstore.records import Metadata, RawRecord
from projections.parked_pages import Asked
from projections.publications.told import told_of
from rayfold import Refused, Registry

if TYPE_CHECKING:  # it imports Ray, which then reads its environment
    from projections.operations.applications import Applications, Place

_FRONT = re.compile(r"([0-9]{1,18})@(.+)\Z", re.DOTALL)
_BACK = re.compile(r"(.+)@([0-9]{1,18})\Z", re.DOTALL)


class Outcomes(Protocol):
    """The outcomes that writers remember."""

    async def outcome(self, command_id: str) -> tuple[str, Any] | None:
        """See `WriteSide.outcome`."""
        ...


class Outbound(Protocol):
    """The publications and reactors: see `OutboundSide`."""

    @property
    def publications(self) -> Any:
        """See `PublicationSide`."""
        ...

    @property
    def reactors(self) -> Any:
        """See `ReactorSide`."""
        ...


class Causality:
    """Reads the log, and asks publications and reactors how far they are."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        outcomes: Outcomes,
        applications: Applications,
        outbound: Outbound,
    ) -> None:
        self._registry = registry
        self._log = log
        self._outcomes = outcomes
        self._applications = applications
        self._outbound = outbound
        self._processes = list(registry.processes.values())
        self._prefixes = [
            *registry.prefixes,
            *(each.prefix for each in self._processes),
            SCHEDULES,
        ]

    async def of(self, asked: Sequence[str], scan: int) -> dict[str, Any] | None:
        """Return what belongs to a command id, a correlation id, or `REVISION@STREAM`.

        `asked` are interpretations of the same text, the most likely first. At most `scan` records
        are read in each direction. None if nothing is known of it.

        Raises:
            StoreUnavailable: the log cannot be read.
            ActorUnavailable: a publication or reactor does not answer.
        """
        found = await self._find(asked, scan)
        if found is None:
            return await self._refused(asked)
        told = _Told(found, self._processes)
        events = [raw for raw, _ in found.records if not raw.stream.startswith(_NO_EVENTS)]
        applied = await self._applications.of(events)
        outgoing = await self._outgoing([raw for raw, _ in found.records])
        for command_id in told.without_outcome():
            told.remembered(command_id, await self._outcomes.outcome(command_id))
        return {
            "asked": asked[0],
            "correlation_id": found.correlation_id,
            "complete": found.complete,
            "read": found.read,
            "left_out": found.left_out,
            "commands": told.commands(applied, outgoing),
        }

    async def _find(self, asked: Sequence[str], scan: int) -> Correlated | None:
        for text in asked:
            for stream, revision in _places(text):
                raw = await record_at(self._log, stream, revision)
                if raw is not None:
                    return await self._correlated(raw, scan)
        for text in asked:
            known = await self._outcomes.outcome(text)
            if known is not None and isinstance(known[1], Done):
                raw = await record_at(self._log, known[0], known[1].revision)
                if raw is not None and self._origin_of(raw).command_id == text:
                    return await self._correlated(raw, scan)
            scheduled = await record_at(self._log, f"{SCHEDULES}{text}", 0)
            if scheduled is not None:
                return await self._correlated(scheduled, scan)
        for text in dict.fromkeys(asked):
            found = await self._correlated(text, scan)
            if found is not None:
                return found
        return None

    async def _correlated(self, asked: str | RawRecord, scan: int) -> Correlated | None:
        return await correlated(
            self._log, self._prefixes, asked, origin_of=self._origin_of, scan=scan
        )

    def _origin_of(self, raw: RawRecord) -> Origin:
        return origin_of(raw, self._processes)

    async def _refused(self, asked: Sequence[str]) -> dict[str, Any] | None:
        for text in asked:
            known = await self._outcomes.outcome(text)
            if known is not None:
                command = {**_NEW, "command_id": text, "events": [], "steps": [], "depth": 0}
                command |= {"stream": known[0], **_outcome(known[1])}
                return {
                    "asked": asked[0],
                    "correlation_id": text,
                    "complete": True,
                    "read": 0,
                    "left_out": 0,
                    "commands": [command],
                }
        return None

    async def _outgoing(self, records: Sequence[RawRecord]) -> dict[Place, list[dict[str, Any]]]:
        publications = self._outbound.publications
        parts = publications.status()
        positions = {part["publication"]: part["position"] for part in parts if "position" in part}
        told_by = []
        for name, definition in self._registry.publications.items():
            parked_under = partial(publications.parked_under, name)
            position = positions.get(name)
            told_by.append(
                await told_of(self._registry, definition, records, position, parked_under)
            )
        streams = frozenset(raw.stream for raw in records)
        parked = await self._outbound.reactors.parked(Asked(among=streams))
        reactors = {part["part"].partition("#")[0]: part for part in self._reactor_parts()}
        found: dict[Place, list[dict[str, Any]]] = {}
        for at, raw in enumerate(records):
            told: list[dict[str, Any]] = [one for each in told_by for one in each[at]]
            for name, reactor in self._registry.reactors.items():
                if raw.event_type in self._registry.stored_as(reactor.handlers):
                    told.append(_reacted(raw, name, parked, reactors.get(f"reactor:{name}", {})))
            found[raw.stream, raw.revision] = told
        return found

    def _reactor_parts(self) -> list[dict[str, Any]]:
        return list(self._outbound.reactors.status())


_NO_EVENTS = (PROCESSES, SCHEDULES)

_NEW: dict[str, Any] = {
    "command": None,
    "stream": None,
    "status": "unknown",
    "principal": None,
    "traceparent": None,
    "caused_by": None,
    "sent_by": None,
    "scheduled": None,
}


class _Told:
    """Commands with their events and effects, ordered as a tree."""

    def __init__(self, found: Correlated, processes: Iterable[Any]) -> None:
        self._commands: dict[str, dict[str, Any]] = {}
        self._events: dict[str, list[RawRecord]] = {}
        self._steps: list[tuple[RawRecord, StepRead]] = []
        self._by_event: dict[tuple[str, int], str] = {}
        for raw, origin in found.records:
            if raw.stream.startswith(SCHEDULES):
                self._scheduled(raw, origin)
            elif (step := step_read(raw, processes)) is not None:
                self._step(raw, step)
            else:
                self._event(raw, origin)

    def _command(self, command_id: str) -> dict[str, Any]:
        return self._commands.setdefault(command_id, {**_NEW, "command_id": command_id})

    def _event(self, raw: RawRecord, origin: Origin) -> None:
        command = self._command(origin.command_id)
        metadata = Metadata(raw.metadata)
        command["status"] = "accepted"
        command["stream"] = command["stream"] or raw.stream
        command["principal"] = metadata.get("principal")
        command["traceparent"] = metadata.get("traceparent")
        if origin.caused_by:
            command["caused_by"] = origin.caused_by[0]
        self._events.setdefault(origin.command_id, []).append(raw)
        self._by_event[raw.stream, raw.revision] = origin.command_id

    def _scheduled(self, raw: RawRecord, origin: Origin) -> None:
        command = self._command(origin.command_id)
        said = schedule_read(raw)
        scheduled = command["scheduled"] or {"recorded_at": raw.recorded_at}
        if raw.revision == 0:
            command["command"] = said.get("command")
            command["principal"] = said.get("principal")
            command["caused_by"] = said.get("causation_id")
            scheduled["not_before"] = said.get("not_before")
            if command["status"] == "unknown":
                command["status"] = "scheduled"
        else:
            scheduled["became"] = raw.event_type
            if "rule" in said:
                command |= _rejected(said["rule"], said.get("detail", ""))
            elif raw.event_type == "ScheduledCommandCancelled":
                command["status"] = "cancelled"
        command["scheduled"] = scheduled

    def _step(self, raw: RawRecord, step: StepRead) -> None:
        self._steps.append((raw, step))
        led_here = next(iter(step.caused_by), "") or step.command_id
        for sent in step.sends:
            command = self._command(sent.command_id)
            command["command"] = sent.command
            command["sent_by"] = {"stream": raw.stream, "revision": raw.revision}
            # A process only records a command's cause if it is one of its own commands.
            command["caused_by"] = command["caused_by"] or sent.caused_by or led_here or None
            if command["status"] == "unknown":
                command["status"] = "waiting"
        if step.accepted:
            self._command(step.command_id)["status"] = "accepted"
        elif step.rule:
            self._commands[step.command_id] = {
                **self._command(step.command_id),
                **_rejected(step.rule, step.detail),
            }

    def without_outcome(self) -> list[str]:
        """Return the commands of which the log has no outcome yet."""
        return [name for name, each in self._commands.items() if each["status"] == "unknown"]

    def remembered(self, command_id: str, known: tuple[str, Any] | None) -> None:
        """Add what a writer remembers of a command."""
        if known is not None:
            self._commands[command_id] |= {"stream": known[0], **_outcome(known[1])}

    def commands(
        self,
        applied: Mapping[Place, list[dict[str, Any]]],
        outgoing: Mapping[Place, list[dict[str, Any]]],
    ) -> list[dict[str, Any]]:
        """Return the commands, each after the one that led to it, with its depth in the tree."""
        steps: dict[str, list[dict[str, Any]]] = {}
        for raw, step in self._steps:
            owner = self._owner(step)
            went = outgoing.get((raw.stream, raw.revision), [])
            steps.setdefault(owner, []).append(_plain_step(raw, step, went))
        # A command that is only known as another's cause was not found.
        for command_id in [*steps]:
            self._command(command_id)
        return [
            {
                **self._commands[command_id],
                "depth": depth,
                "events": [
                    _plain_event(raw, applied, outgoing) for raw in self._events.get(command_id, ())
                ],
                "steps": steps.get(command_id, []),
            }
            for command_id, depth in self._in_order()
        ]

    def _owner(self, step: StepRead) -> str:
        """Return the command from which a step follows."""
        if step.stream:
            return self._by_event.get((step.stream, step.revision)) or next(
                iter(step.caused_by), ""
            )
        return step.command_id or next(iter(step.caused_by), "")

    def _in_order(self) -> Iterable[tuple[str, int]]:
        children: dict[str, list[str]] = {}
        roots: list[str] = []
        for command_id, each in self._commands.items():
            parent = each["caused_by"]
            known = parent in self._commands and parent != command_id
            (children.setdefault(parent, []) if known else roots).append(command_id)
        seen: set[str] = set()
        # Commands not reached from the roots form a cycle: begin with any of them.
        for root in [*roots, *self._commands]:
            waiting = [(root, 0)]
            while waiting:
                command_id, depth = waiting.pop()
                if command_id in seen:
                    continue
                seen.add(command_id)
                yield command_id, depth
                below = children.get(command_id, ())
                waiting += [(child, depth + 1) for child in reversed(below)]


def _places(text: str) -> list[tuple[str, int]]:
    found = []
    if at := _FRONT.match(text):
        found.append((at[2], int(at[1])))
    if at := _BACK.match(text):
        found.append((at[1], int(at[2])))
    return found


def _rejected(rule: str, detail: str) -> dict[str, Any]:
    return {"status": "rejected", "code": rule, "detail": detail}


def _outcome(outcome: Any) -> dict[str, Any]:
    if outcome is None:
        return {"status": "waiting"}
    if isinstance(outcome, Refused):
        return _rejected(outcome.rule, outcome.detail)
    if isinstance(outcome, Exception):
        return {"status": "failed", "detail": str(outcome)}
    return {"status": "accepted"}


def _plain_event(
    raw: RawRecord,
    applied: Mapping[Place, list[dict[str, Any]]],
    outgoing: Mapping[Place, list[dict[str, Any]]],
) -> dict[str, Any]:
    place = raw.stream, raw.revision
    return {
        "stream": raw.stream,
        "revision": raw.revision,
        "position": raw.position,
        "type": raw.event_type,
        "recorded_at": raw.recorded_at,
        "applications": applied.get(place, []),
        "outgoing": outgoing.get(place, []),
    }


def _plain_step(raw: RawRecord, step: StepRead, outgoing: list[dict[str, Any]]) -> dict[str, Any]:
    because: dict[str, Any] = {}
    if step.stream:
        because = {"stream": step.stream, "revision": step.revision}
    elif step.timeout:
        because = {"timeout": step.timeout}
    elif step.command_id:
        because = {"command_id": step.command_id}
    return {
        "process": step.process,
        "key": step.key,
        "stream": raw.stream,
        "revision": raw.revision,
        "position": raw.position,
        "type": raw.event_type,
        "recorded_at": raw.recorded_at,
        "because": because,
        "sends": [each.command_id for each in step.sends],
        "outgoing": outgoing,
        **({"error": step.error} if step.error else {}),
    }


def _reacted(
    raw: RawRecord, name: str, parked: Sequence[Mapping[str, Any]], part: Mapping[str, Any]
) -> dict[str, Any]:
    for each in parked:
        if each["view"] == name and (each["stream"], each["revision"]) == (
            raw.stream,
            raw.revision,
        ):
            return {"reactor": name, "status": "parked", "error": each["error"]}
    behind = part.get("behind")
    # The consumer group only tells how many events wait, not which.
    return {"reactor": name, "status": "done" if behind == 0 else "unknown"}
