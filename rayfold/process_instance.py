"""One process: the fold of its steps. Pure, so any actor can continue the process.

A *step* is what a process received together with what it decided on that. It is decided on the
present state, recorded, and only then applied. The runtime records it in the process's stream, the
test kit in a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from rayfold.errors import EndlessProcess
from rayfold.messages import Command, Event
from rayfold.process import (
    WITHDRAWN,
    Aborted,
    CommandRejected,
    Happened,
    ProcessDefinition,
    TimedOut,
)
from rayfold.steps import Complete, Publish, Schedule, Send, Unschedule
from rayfold.unchanged import Unchanged, fresh

AT_ONCE = timedelta(seconds=1)
"""A timeout that is due sooner does not end a chain of commands, as almost no time has passed."""

_SHOWN = 8

ABORTED = "aborted"
"""The trigger of an abort's step."""


class _Cause(NamedTuple):
    """The process's own command that led to a step, and the depth of its chain; 0 without one."""

    depth: int
    command_id: UUID | None


_NOBODY = _Cause(0, None)


@dataclass(frozen=True)
class Sending:
    """A command to send. `cause` is the command of this process that led to it.

    `depth` counts the steps since an outside event or a passage of time: 1 is the first.
    """

    command_id: UUID
    command: Command
    depth: int = 1
    cause: UUID | None = None


@dataclass(frozen=True)
class Timer:
    """A scheduled timeout, the `number`th of its process. `depth` is as for a command."""

    name: str
    due: datetime
    number: int
    depth: int = 0
    cause: UUID | None = None


Decided = Sending | Timer | Unschedule | Publish | Complete


@dataclass(frozen=True)
class ProcessStep:
    """What a process received at once, and what it decided.

    `trigger` names where that came from: a place in the log, a timer, a refused command, an abort.
    `position` is the place in `$all`, if it was an event.
    """

    trigger: str
    happened: tuple[Happened, ...]
    decided: tuple[Decided, ...]
    position: int | None = None
    answered: tuple[UUID, ...] = ()
    """Commands that an abort has withdrawn, so that they no longer wait for an answer."""


@dataclass
class ProcessInstance:
    """A process as of its last step. `waiting` are the commands without an answer, in order."""

    definition: ProcessDefinition
    key: str
    state: Any = None
    begun: bool = False
    ended: bool = False
    aborting: bool = False
    position: int = -1
    waiting: dict[UUID, Sending] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)
    scheduled: int = 0
    _sent: dict[UUID, Sending] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state is None:
            self.state = fresh(self.definition.initial)

    def on_events(
        self,
        events: Sequence[Event],
        *,
        trigger: str,
        position: int,
        now: datetime,
        caused_by: UUID | None = None,
    ) -> ProcessStep | None:
        """Return the step that a record of the log leads to; None if it does not concern this one.

        `caused_by` is the command that led to the record.

        Raises:
            EndlessProcess: the process sends commands in an endless loop.
            Exception: whatever the author's code raises.
        """
        if self.ended or position <= self.position:
            return None
        if not self.begun:
            first = next((n for n, e in enumerate(events) if self.definition.begins_with(e)), None)
            if first is None:
                return None
            events = events[first:]
        cause = self._cause(caused_by)
        return self._step(tuple(events), trigger, now, cause, position)

    def on_timer(self, timer: Timer, *, now: datetime) -> ProcessStep | None:
        """Return the step that a timer leads to; None if it was moved or cancelled meanwhile.

        Raises:
            As `on_events`.
        """
        if self.ended or self.timers.get(timer.name) != timer:
            return None
        trigger = f"timeout:{timer.name}:{timer.number}"
        return self._step(
            (TimedOut(timer.name, timer.due),), trigger, now, _Cause(timer.depth, timer.cause)
        )

    def on_refusal(
        self, command_id: UUID, *, rule: str, detail: str, now: datetime
    ) -> ProcessStep | None:
        """Return the step that a refused command leads to; None if its answer is not awaited.

        Raises:
            As `on_events`.
        """
        sending = self.waiting.get(command_id)
        if sending is None:
            return None
        rejected = CommandRejected(sending.command, rule, detail)
        trigger = f"rejected:{command_id}"
        if self.ended:
            return ProcessStep(trigger, (rejected,), ())
        return self._step((rejected,), trigger, now, self._cause(command_id))

    def on_abort(
        self,
        missed: Sequence[Happened],
        *,
        keep: UUID | None,
        now: datetime,
        position: int | None = None,
    ) -> ProcessStep:
        """Return the step with which an abort begins the compensation.

        `missed` is what the process did not receive while it was parked. It is folded first, and no
        handler sees it. Commands without an answer are withdrawn, except `keep`, which may be on
        its way already. Timeouts are cancelled. Without a handler for aborts, the process ends.

        Raises:
            As `on_events`.
        """
        refused = {
            sending.command_id
            for sending in self.waiting.values()
            if any(isinstance(m, CommandRejected) and m.command is sending.command for m in missed)
        }
        withdrawn = [
            each
            for each in self.waiting.values()
            if each.command_id not in refused and each.command_id != keep
        ]
        folded: list[Happened] = [
            *missed,
            *(CommandRejected(each.command, WITHDRAWN) for each in withdrawn),
        ]
        state = self.state
        with Unchanged(self.definition.model, state):
            for each in folded:
                state = self.definition.evolve(state, each)
        steps = self._step((Aborted(),), ABORTED, now, _NOBODY, position, state)
        answered = (*refused, *(each.command_id for each in withdrawn))
        return ProcessStep(ABORTED, (*folded, Aborted()), steps.decided, position, answered)

    def apply(self, step: ProcessStep) -> None:
        """Apply a step that has been recorded."""
        self.begun = True
        if step.position is not None:
            self.position = step.position
        self._wait_no_more(step)
        if not self.ended:
            for happened in step.happened:
                if not isinstance(happened, Aborted) or self.definition.on_abort is not None:
                    self.state = self.definition.evolve(self.state, happened)
        self._note(step.decided)
        # Older commands cannot be part of a chain within `max_chain`.
        for oldest in list(self._sent)[: -10 * self.definition.max_chain]:
            del self._sent[oldest]

    def _wait_no_more(self, step: ProcessStep) -> None:
        """Remove the timer or the waiting command that led to a step; on an abort, all timers."""
        kind, _, rest = step.trigger.partition(":")
        if kind == "timeout":
            name, _, number = rest.rpartition(":")
            if name in self.timers and self.timers[name].number == int(number):
                del self.timers[name]
        elif kind == "rejected":
            self.answered(UUID(rest))
        elif kind == ABORTED:
            self.aborting = True
            self.timers.clear()
            for command_id in step.answered:
                self.answered(command_id)

    def _note(self, decided: Sequence[Decided]) -> None:
        """Add the commands and timers that a step decided to those that wait."""
        for each in decided:
            if isinstance(each, Sending):
                self.waiting[each.command_id] = self._sent[each.command_id] = each
            elif isinstance(each, Timer):
                self.timers[each.name] = each
                self.scheduled = each.number
            elif isinstance(each, Unschedule):
                self.timers.pop(each.timeout_name, None)
            elif isinstance(each, Complete):
                self.end()

    def answered(self, command_id: UUID) -> None:
        """Note that a command was answered."""
        self.waiting.pop(command_id, None)

    def end(self) -> None:
        """End the process: it receives nothing more, and its timers are cancelled."""
        self.ended = True
        self.timers.clear()

    def _step(
        self,
        happened: tuple[Happened, ...],
        trigger: str,
        now: datetime,
        cause: _Cause,
        position: int | None = None,
        state: Any = None,
    ) -> ProcessStep:
        state = self.state if state is None else state
        with Unchanged(self.definition.model, state):
            return self._decided(happened, trigger, now, cause, position, state)

    def _decided(
        self,
        happened: tuple[Happened, ...],
        trigger: str,
        now: datetime,
        cause: _Cause,
        position: int | None,
        state: Any,
    ) -> ProcessStep:
        decided, timers = list[Decided](), self.scheduled
        for index, each in enumerate(happened):
            if not isinstance(each, Aborted) or self.definition.on_abort is not None:
                state = self.definition.evolve(state, each)
            for step in self.definition.react(state, each):
                if isinstance(step, Send):
                    said = f"{trigger}/{index}"
                    command_id = self.definition.command_id(self.key, said, len(decided))
                    decided.append(self._sending(command_id, step.command, now, cause))
                elif isinstance(step, Schedule):
                    timers += 1
                    decided.append(self._timer(step, now, timers, cause))
                else:
                    decided.append(step)
                if isinstance(step, Complete):
                    return ProcessStep(trigger, happened[: index + 1], tuple(decided), position)
        return ProcessStep(trigger, happened, tuple(decided), position)

    def _cause(self, command_id: UUID | None) -> _Cause:
        sent = self._sent.get(command_id) if command_id else None
        return _Cause(sent.depth, sent.command_id) if sent else _NOBODY

    def _sending(self, command_id: UUID, command: Command, now: datetime, cause: _Cause) -> Sending:
        self._check_depth(cause, type(command).__rayfold__.name)
        return Sending(command_id, stamped(command, now), cause.depth + 1, cause.command_id)

    def _timer(self, step: Schedule, now: datetime, number: int, cause: _Cause) -> Timer:
        due = step.due(now)
        if due - now >= AT_ONCE:
            return Timer(step.timeout_name, due, number)
        self._check_depth(cause, step.timeout_name)
        return Timer(step.timeout_name, due, number, cause.depth + 1, cause.command_id)

    def _check_depth(self, cause: _Cause, name: str) -> None:
        if cause.depth >= self.definition.max_chain:
            raise EndlessProcess(self.definition.max_chain, self._chain(name, cause))

    def _chain(self, name: str, cause: _Cause) -> tuple[str, ...]:
        names = [name]
        before = self._sent.get(cause.command_id) if cause.command_id else None
        while before is not None and len(names) < _SHOWN:
            names.append(type(before.command).__rayfold__.name)
            before = self._sent.get(before.cause) if before.cause else None
        return tuple(names)


def refuse_unwritable(decided: object) -> None:
    """Refuse a test's decision that a running process could not record.

    Raises:
        ValueError: a command or integration event would not be read back equal.
    """
    if isinstance(decided, Send | Sending):
        type(decided.command).__rayfold__.encode_exactly(decided.command)
    elif isinstance(decided, Publish):
        type(decided.integration_event).__rayfold__.encode(decided.integration_event)


def stamped(command: Command, now: datetime) -> Command:
    """Return the command with the fields that the runtime fills in: handlers have no clock."""
    supplied = type(command).__rayfold__.server_supplied
    return Command.replace(command, **dict.fromkeys(supplied, now)) if supplied else command
