"""A process in memory: its instance, and what its stream says beside that."""

from __future__ import annotations

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
    Parked,
    StepRecord,
    Told,
    Waits,
    happened_of,
    new_record,
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
from rayfold.process import ProcessDefinition
from rayfold.process_instance import ProcessInstance, ProcessStep


@dataclass
class ProcessState:
    """As of `revision`, its stream's last. `parked` begins with what it broke on, by `error`.

    `unsure` are commands that may have been sent by somebody before us, with the position at which
    they were decided.
    """

    instance: ProcessInstance
    registry: Registry
    revision: int = -1
    correlation_id: str = ""
    parked: list[Told] = field(default_factory=list)
    error: str = ""
    unsure: dict[UUID, int] = field(default_factory=dict)
    scheduled_until: int = 0
    """The timers up to this number are known to whoever waits for them."""

    @property
    def expected(self) -> int | None:
        """Return what an append expects."""
        return self.revision if self.revision >= 0 else None

    @property
    def is_open(self) -> bool:
        """Whether anything may still happen to it."""
        return bool(not self.instance.ended or self.instance.waiting)

    def decide(self, told: Told, now: datetime) -> ProcessStep | None:
        """Return the step that it leads to; None where it does not concern the process (any more).

        Raises:
            Exception: whatever the author's code raises.
        """
        instance = self.instance
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

    def write(self, told: Told, step: ProcessStep, writer: str) -> NewRecord:
        """Return the record of a step.

        Raises:
            ValueError: it would not come back.
        """
        return new_record(told.step_type, step_record(told, step), writer, self._correlation(told))

    def write_parked(self, told: Told, error: str, writer: str) -> NewRecord:
        """Return the record that says that it broke on this."""
        return new_record(PARKED, Parked(told, error), writer, self._correlation(told))

    def write_waits(self, told: Told, writer: str) -> NewRecord:
        """Return the record that says that this waits behind what it broke on."""
        return new_record(WAITS, Waits(told), writer, self._correlation(told))

    def apply(self, told: Told, step: ProcessStep) -> None:
        """Move on by a step that is recorded."""
        self.correlation_id = self.correlation_id or told.correlation_id
        self.instance.apply(step)
        self.drop(told.trigger)

    def fold(self, raw: RawRecord) -> None:
        """Take in a record of the stream.

        Raises:
            Exception: the domain has changed so that it cannot be read.
        """
        self.revision = raw.revision
        if raw.event_type in STEPS:
            record = read_step(raw.data)
            known = set(self.instance.waiting)
            self.apply(record.told, self._step(record))
            for command_id in set(self.instance.waiting) - known:
                self.unsure[command_id] = raw.position
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
            self.abort()

    def answered(self, command_id: UUID) -> None:
        """Note that a command was accepted."""
        self.instance.answered(command_id)
        self.unsure.pop(command_id, None)

    def park(self, told: Told, error: str) -> None:
        """Leave it as it is, with what it broke on."""
        if not self.parked or self.parked[0].trigger != told.trigger:
            self.parked.insert(0, told)
        self.error = error

    def drop(self, trigger: str) -> None:
        """Be parked on this no more: it was told, or concerns the process no more."""
        if self.parked and self.parked[0].trigger == trigger:
            del self.parked[0]
            self.error = ""

    def abort(self) -> None:
        """End it: what was not sent yet never is."""
        self.instance.end()
        self.instance.waiting.clear()
        self.parked.clear()
        self.error = ""

    def is_parked_on(self, trigger: str) -> bool:
        """Return whether this waits already."""
        return any(told.trigger == trigger for told in self.parked)

    def _step(self, record: StepRecord) -> ProcessStep:
        refused: Command | None = None
        if record.told.command_id:
            sending = self.instance.waiting.get(UUID(record.told.command_id))
            refused = sending.command if sending else None
        definition = self.instance.definition
        return step_of(definition, self.registry, self.instance.key, record, refused)

    def _correlation(self, told: Told) -> str:
        return told.correlation_id or self.correlation_id


async def load(
    log: Log, registry: Registry, definition: ProcessDefinition, key: str
) -> ProcessState:
    """Fold a process as its stream has it now.

    Raises:
        StoreUnavailable: the log cannot be read.
        Exception: the domain has changed so that a record cannot be read.
    """
    state = ProcessState(ProcessInstance(definition, key), registry)
    async for raw in log.read_stream(f"{definition.prefix}{key}"):
        state.fold(raw)
    return state
