"""A process in memory: its instance, and the bookkeeping of its stream."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from actors.processes.records import (
    ABORTED,
    COMMAND_ACCEPTED,
    DROPPED,
    PARKED,
    STEPS,
    WAITS,
    AbortRecord,
    Lost,
    Parked,
    StepRecord,
    Told,
    Waits,
    abort_record,
    abort_step_of,
    happened_of,
    last_position,
    new_record,
    read_abort,
    read_accepted,
    read_parked,
    read_step,
    read_waits,
    step_of,
    step_record,
)
from eventstore.port import Log
from eventstore.records import NewRecord, RawRecord
from rayfold import Command, Event, Registry
from rayfold.process import WITHDRAWN, CommandRejected, Happened, ProcessDefinition
from rayfold.process_instance import ProcessInstance, ProcessStep, Sending
from rayfold.runtime.turns import Turn

log = logging.getLogger(__name__)


@dataclass
class ProcessState:
    """The state at `revision`, its stream's last. `parked` begins with the message on which it
    failed with `error`.

    `decided_at` has the positions at which the waiting commands were decided, `unsure` those that
    another runner may have sent already. `lost` has waiting commands that the domain can no longer
    read, as they were removed or have another shape. Once one is accepted, it no longer matters.
    """

    instance: ProcessInstance
    registry: Registry
    revision: int = -1
    correlation_id: str = ""
    parked: list[Told] = field(default_factory=list)
    error: str = ""
    decided_at: dict[UUID, int] = field(default_factory=dict)
    unsure: set[UUID] = field(default_factory=set)
    lost: Lost = field(default_factory=dict)

    @property
    def expected(self) -> int | None:
        """Return the expected revision of an append."""
        return self.revision if self.revision >= 0 else None

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen to it."""
        return bool(not self.instance.ended or self.instance.waiting)

    @property
    def next_sending(self) -> Sending | None:
        """Return the command that is being sent, or is next; None: all have answers.

        A command whose refusal is waiting in the mailbox has its answer.
        """
        refused = {told.command_id for told in self.parked if told.command_id}
        waiting = self.instance.waiting.values()
        return next((each for each in waiting if str(each.command_id) not in refused), None)

    def decide(self, told: Told, now: datetime) -> ProcessStep | None:
        """Return the resulting step; None if the message does not concern the process (any more).

        Raises:
            Exception: any error of the domain's code.
        """
        instance = self.instance
        if instance.ended and not told.command_id:
            return None
        if told.timeout:
            timer = instance.timers.get(told.timeout)
            if timer is None or timer.number != told.number:
                return None
            return instance.on_timer(timer, now=now)
        if told.command_id:
            return instance.on_refusal(
                UUID(told.command_id), rule=told.rule, detail=told.detail, now=now
            )
        happened = happened_of(instance.definition, self.registry, instance.key, told, None)
        return instance.on_events(
            [each for each in happened if isinstance(each, Event)],
            trigger=told.trigger,
            position=told.position if told.position is not None else -1,
            now=now,
            caused_by=UUID(told.caused_by) if told.caused_by else None,
        )

    def decide_abort(self, now: datetime) -> tuple[AbortRecord, ProcessStep] | None:
        """Return the compensating step; None if the manager has none.

        Messages that wait since the process was parked are folded, as far as possible.

        Raises:
            Exception: any error of the domain's handler.
        """
        instance = self.instance
        if instance.definition.on_abort is None or instance.ended:
            return None
        missed, happened = self._missed()
        on_its_way = self.next_sending
        step = instance.on_abort(
            happened,
            keep=on_its_way.command_id if on_its_way else None,
            now=now,
            position=last_position(self.parked),
        )
        return abort_record(missed, step), step

    def _missed(self) -> tuple[list[Told], list[Happened]]:
        found: list[Told] = []
        happened: list[Happened] = []
        state, evolve = self.instance.state, self.instance.definition.evolve
        for told in self.parked:
            if told.timeout:
                continue
            try:
                these = self._happened(told)
                for each in these:
                    state = evolve(state, each)
            except (Exception, SystemExit):  # most likely the message on which it is parked
                log.warning(
                    "an aborted process skips a message that it cannot fold",
                    extra={"process": self.instance.key, "trigger": told.trigger},
                )
                continue
            found.append(told)
            happened += these
        return found, happened

    def _happened(self, told: Told) -> Sequence[Happened]:
        command = self._sent(UUID(told.command_id)) if told.command_id else None
        return happened_of(
            self.instance.definition, self.registry, self.instance.key, told, command
        )

    def write(self, told: Told, step: ProcessStep, writer: str) -> NewRecord:
        """Return the record of a step.

        Raises:
            ValueError: the record would not read back unchanged.
        """
        return new_record(told.step_type, step_record(told, step), writer, self._correlation(told))

    def write_parked(self, told: Told, error: str, writer: str) -> NewRecord:
        """Return the record of an event, timeout or refusal on which the process failed."""
        return new_record(PARKED, Parked(told, error), writer, self._correlation(told))

    def write_waits(self, told: Told, writer: str) -> NewRecord:
        """Return the record of a message that waits behind the one on which the process failed."""
        return new_record(WAITS, Waits(told), writer, self._correlation(told))

    def apply(self, told: Told, step: ProcessStep) -> None:
        """Apply a recorded step."""
        self.correlation_id = self.correlation_id or told.correlation_id
        self.instance.apply(step)
        self.drop(told.trigger)
        self._forget_what_waits_no_more()

    def fold(self, raw: RawRecord) -> None:
        """Apply a record of the stream.

        Raises:
            Exception: the domain has changed so that the record cannot be read.
        """
        self.revision = raw.revision
        if raw.event_type in STEPS:
            record = read_step(raw.data)
            step = self._step(record)
            self.apply(record.told, step)
            self._read(step, raw.position)
        elif raw.event_type == COMMAND_ACCEPTED:
            self.answered(read_accepted(raw.data).command_id)
        elif raw.event_type == PARKED:
            parked = read_parked(raw.data)
            self.park(parked.told, parked.error)
        elif raw.event_type == WAITS:
            self.parked.append(read_waits(raw.data).told)
        elif raw.event_type == DROPPED:
            self.drop(read_waits(raw.data).told.trigger)
        elif raw.event_type == ABORTED:
            self.abort(self._abort_step(read_abort(raw.data), raw.position))

    def check(self) -> None:
        """Check that all waiting commands can be sent.

        Raises:
            Exception: the domain has changed so that a command cannot be read.
        """
        for error in self.lost.values():
            raise error

    def answered(self, command_id: UUID) -> None:
        """Record that a command was accepted."""
        self.instance.answered(command_id)
        self.decided_at.pop(command_id, None)
        self.unsure.discard(command_id)
        self.lost.pop(command_id, None)

    def park(self, told: Told, error: str) -> None:
        """Park the process on this message; its state stays as it was before."""
        if not self.parked or self.parked[0].trigger != told.trigger:
            self.parked.insert(0, told)
        self.error = error

    def drop(self, trigger: str) -> None:
        """Remove a message that parked the process: it was handled, or no longer concerns it."""
        if self.parked and self.parked[0].trigger == trigger:
            del self.parked[0]
            self.error = ""

    def abort(self, step: ProcessStep | None) -> None:
        """Begin to compensate; without a step, end it: commands not sent yet never are."""
        if step is None:
            self.instance.end()
            self.instance.waiting.clear()
            self.lost.clear()
        else:
            self.instance.apply(step)
        self.parked.clear()
        self.error = ""
        self._forget_what_waits_no_more()

    def is_parked_on(self, trigger: str) -> bool:
        """Return whether this message waits already."""
        return any(told.trigger == trigger for told in self.parked)

    def _forget_what_waits_no_more(self) -> None:
        waiting = self.instance.waiting.keys()
        self.decided_at = {each: at for each, at in self.decided_at.items() if each in waiting}
        self.unsure &= waiting

    def _step(self, record: StepRecord) -> ProcessStep:
        refused: Command | None = None
        if record.told.command_id:
            refused = self._sent(UUID(record.told.command_id))
        definition = self.instance.definition
        return step_of(definition, self.registry, self.instance.key, record, refused, self.lost)

    def _sent(self, command_id: UUID) -> Command | None:
        if command_id in self.lost:  # it was refused, and `evolve` needs to know which one
            raise self.lost[command_id]
        sending = self.instance.waiting.get(command_id)
        return sending.command if sending else None

    def _abort_step(self, record: AbortRecord, position: int) -> ProcessStep | None:
        if not record.compensates:
            return None
        happened = [each for told in record.missed for each in self._happened(told)]
        refused = {told.command_id for told in record.missed}
        for command_id in record.answered:
            command = self._sent(command_id)
            if command is not None and str(command_id) not in refused:
                happened.append(CommandRejected(command, WITHDRAWN))
        step = abort_step_of(self.registry, record, happened, self.lost)
        self._read(step, position)
        return step

    def decided(self, position: int) -> None:
        """Record the position of the commands that were just decided."""
        for command_id in self.instance.waiting:
            self.decided_at.setdefault(command_id, position)

    def _read(self, step: ProcessStep, position: int) -> None:
        sends = [each.command_id for each in step.decided if isinstance(each, Sending)]
        self.decided_at.update(dict.fromkeys(sends, position))
        self.unsure.update(sends)

    def _correlation(self, told: Told) -> str:
        return told.correlation_id or self.correlation_id


async def load(
    log: Log, registry: Registry, definition: ProcessDefinition, key: str
) -> ProcessState:
    """Fold a process from its stream.

    Raises:
        StoreUnavailable: the log cannot be read.
        Exception: the domain has changed so that a record cannot be read.
    """
    state = ProcessState(ProcessInstance(definition, key), registry)
    turn = Turn()
    async for raw in log.read_stream(f"{definition.prefix}{key}"):
        await turn.pass_on()
        state.fold(raw)
    state.check()
    return state
