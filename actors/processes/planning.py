"""What a process is to be told, and the records that it would lead to: decided, not written."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from actors.processes.process_state import ProcessState
from actors.processes.records import (
    ABORTED,
    COMMAND_ACCEPTED,
    DROPPED,
    Accepted,
    Told,
    Waits,
    new_record,
)
from eventstore.records import NewRecord

log = logging.getLogger(__name__)

RETRY_ORDER = "retry"
ABORT_ORDER = "abort"


@dataclass
class Message:
    """Something for a process, or an operator's order; and who waits until it is recorded."""

    what: Told | Accepted | str
    done: asyncio.Future[None]


@dataclass
class ActiveProcess:
    """A process that is in memory, or has something to do."""

    key: str
    mailbox: deque[Message] = field(default_factory=deque)
    state: ProcessState | None = None
    sender: asyncio.Task[None] | None = None
    refused: str = ""
    """Why the store does not take its next step, ever."""


@dataclass
class Plan:
    """What would be appended to a process's stream; `apply` is done once it is.

    `taken` are messages of the mailbox. The first step ends it: the next is decided on the state
    after that.
    """

    process: ActiveProcess
    writer: str
    now: datetime
    taken: int = 0
    records: list[NewRecord] = field(default_factory=list)
    apply: list[Callable[[], None]] = field(default_factory=list)

    @property
    def state(self) -> ProcessState:
        """The process as it is."""
        assert self.process.state is not None
        return self.process.state

    @property
    def stream(self) -> str:
        """Where it would be appended."""
        return f"{self.state.instance.definition.prefix}{self.process.key}"

    def commit(self, last_revision: int | None) -> None:
        """Move the process on: the records are durable. `last_revision`: see `Appended`."""
        self.process.refused = ""
        self.state.revision += len(self.records)
        if last_revision is not None:
            self.state.revision = last_revision
        for apply in self.apply:
            apply()

    def drop(self) -> None:
        """Fold the process again: somebody else has written, or nobody knows."""
        self.taken = 0
        self.process.state = None


def plan(process: ActiveProcess, writer: str, now: datetime) -> Plan:
    """Decide on what is in the mailbox, up to the first step. The process is left as it is."""
    planned = Plan(process, writer, now)
    for message in process.mailbox:
        planned.taken += 1
        if _takes(planned, message.what):
            break
    return planned


def _takes(planned: Plan, what: Told | Accepted | str) -> bool:
    """Plan for one message; return whether it was a step."""
    if isinstance(what, Accepted):
        _accepted(planned, what)
        return False
    if isinstance(what, Told):
        return _told(planned, what)
    state = planned.state
    if what == ABORT_ORDER:
        record = new_record(ABORTED, {}, planned.writer, state.correlation_id)
        planned.records.append(record)
        planned.apply.append(state.abort)
    elif state.parked:
        _decide(planned, state.parked[0], again=True)
    return True


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
    """Plan a step, `again` on what the process is parked on; return whether there is any."""
    state, writer = planned.state, planned.writer
    if planned.process.refused:
        _park(planned, told, planned.process.refused)
        return True
    try:
        step = state.decide(told, planned.now)
        record = None if step is None else state.write(told, step, writer)
    except Exception as error:  # the author's code, or what came of it
        _park(planned, told, f"{type(error).__name__}: {error}")
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
    about = {"manager": state.instance.definition.name, "key": planned.process.key}
    log.error("a process is parked", extra={**about, "trigger": told.trigger, "error": error})
    planned.records.append(state.write_parked(told, error, planned.writer))
    planned.apply.append(lambda: state.park(told, error))
