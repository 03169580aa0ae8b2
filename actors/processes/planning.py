"""Deciding a process's next step, and the records to append; nothing is written here."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from actors.processes.process_state import ProcessState
from actors.processes.records import (
    ABORTED,
    COMMAND_ACCEPTED,
    DROPPED,
    AbortRecord,
    Accepted,
    Told,
    Waits,
    new_record,
)
from eventstore.port import Appended
from eventstore.records import NewRecord
from rayfold.place_of_error import place_of
from rayfold.runtime.tracing import Span

log = logging.getLogger(__name__)


class Order(Enum):
    """An operator's order to a process."""

    RETRY = "retry"
    ABORT = "abort"
    ABORT_AS_IT_IS = "abort as it is"


What = Told | Accepted | Order


@dataclass
class Message:
    """A message for a process; `done` is set once it is recorded, or has failed for good."""

    what: What
    done: asyncio.Future[None]
    error: str = ""
    """Why an order cannot be carried out."""
    span: Span | None = None
    """The span of the message, if it is traced."""

    def settle(self, error: Exception | None = None) -> None:
        """Complete the future that callers await."""
        if self.span is not None:
            self.span.end(error)
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


@dataclass
class ActiveProcess:
    """A process that is in memory, or has work to do."""

    key: str
    mailbox: deque[Message] = field(default_factory=deque)
    state: ProcessState | None = None
    sender: asyncio.Task[None] | None = None
    refused: str = ""
    """Why the store will never accept its next step."""
    trace: str = ""
    """The trace of its last step and of the commands sent because of it."""
    left: str = ""
    """Why it is left alone until it is retried: it cannot even be parked in its stream."""
    is_stale: bool = False
    """Whether its messages were read before a person in them may have been forgotten."""

    def stop_sending(self) -> None:
        """Stop waiting for the answer to a command."""
        if self.sender is not None:
            self.sender.cancel()
            self.sender = None


@dataclass
class Plan:
    """The records to append to a process's stream; `apply` runs once they are durable.

    `taken` is the number of messages taken from the mailbox. A plan ends with its first step: the
    next one is decided on the state after that.
    """

    process: ActiveProcess
    writer: str
    now: datetime
    taken: int = 0
    records: list[NewRecord] = field(default_factory=list)
    apply: list[Callable[[], None]] = field(default_factory=list)

    @property
    def state(self) -> ProcessState:
        """The current state of the process."""
        assert self.process.state is not None
        return self.process.state

    @property
    def stream(self) -> str:
        """The stream to append to."""
        return f"{self.state.instance.definition.prefix}{self.process.key}"

    def commit(self, appended: Appended) -> None:
        """Update the process: the records are durable."""
        self.process.refused = ""
        self.state.revision += len(self.records)
        if appended.last_revision is not None:
            self.state.revision = appended.last_revision
        for apply in self.apply:
            apply()
        self.state.decided(appended.position)

    def drop(self) -> None:
        """Have the process folded again: another writer was faster, or the outcome is unknown."""
        self.taken = 0
        self.process.state = None


def plan(process: ActiveProcess, writer: str, now: datetime) -> Plan:
    """Decide the messages of the mailbox, up to the first step; the process is not changed."""
    planned = Plan(process, writer, now)
    for message in process.mailbox:
        planned.taken += 1
        if _takes(planned, message):
            break
    return planned


def _takes(planned: Plan, message: Message) -> bool:
    """Plan one message; return whether it leads to a step."""
    match message.what:
        case Accepted() as accepted:
            _accepted(planned, accepted)
            return False
        case Told() as told:
            return _told(planned, told)
        case Order.RETRY:
            if planned.state.parked:
                _decide(planned, planned.state.parked[0], again=True)
        case order:
            message.error = _abort(planned, as_it_is=order is Order.ABORT_AS_IT_IS)
    return True


def _abort(planned: Plan, *, as_it_is: bool) -> str:
    """Plan an abort; return why it is impossible, or ""."""
    process, state = planned.process, planned.state
    if not (state.is_open or state.parked):
        return "it has ended"
    if state.instance.aborting and not (as_it_is or state.parked):
        return ""  # the compensation is in progress
    try:
        compensation = None if as_it_is else state.decide_abort(planned.now)
    except (Exception, SystemExit) as error:
        log.exception("an abort's handler failed", extra=_about(planned))
        return f"its compensation failed, {type(error).__name__}: {error}"
    record, step = compensation or (AbortRecord(), None)
    planned.records.append(new_record(ABORTED, record, planned.writer, state.correlation_id))
    planned.apply.append(lambda: state.abort(step))
    if step is None:
        planned.apply.append(process.stop_sending)
    return ""


def _accepted(planned: Plan, accepted: Accepted) -> None:
    state = planned.state
    if accepted.command_id in state.instance.waiting:
        planned.records.append(
            new_record(COMMAND_ACCEPTED, accepted, planned.writer, state.correlation_id)
        )
        planned.apply.append(lambda: state.answered(accepted.command_id))


def _told(planned: Plan, told: Told) -> bool:
    state = planned.state
    if not state.parked:
        return _decide(planned, told)
    position = told.position
    if state.is_parked_on(told.trigger) or (
        position is not None and position <= state.instance.position
    ):
        return False
    planned.records.append(state.write_waits(told, planned.writer))
    planned.apply.append(lambda: state.parked.append(told))
    return True


def _decide(planned: Plan, told: Told, *, again: bool = False) -> bool:
    """Plan a step (`again`: for the message that parked the process); return whether it has one."""
    state, writer = planned.state, planned.writer
    if planned.process.refused:
        _park(planned, told, planned.process.refused)
        return True
    try:
        step = state.decide(told, planned.now)
        record = None if step is None else state.write(told, step, writer)
    except (Exception, SystemExit) as error:  # the domain's code, or its result
        _park(planned, told, f"{type(error).__name__}: {error}{place_of(error)}")
        return True
    if step is not None and record is not None:
        planned.records.append(record)
        planned.apply.append(lambda: state.apply(told, step))
    elif again:
        waits = Waits(told)
        planned.records.append(new_record(DROPPED, waits, writer, state.correlation_id))
        planned.apply.append(lambda: state.drop(told.trigger))
    else:
        return False
    return True


def _park(planned: Plan, told: Told, error: str) -> None:
    state = planned.state
    about = {"trigger": told.trigger, "error": error}
    log.error("a process is parked", extra={**_about(planned), **about})
    planned.records.append(state.write_parked(told, error, planned.writer))
    planned.apply.append(lambda: state.park(told, error))


def _about(planned: Plan) -> dict[str, str]:
    return {"manager": planned.state.instance.definition.name, "key": planned.process.key}
