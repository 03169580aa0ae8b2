"""A saga that is run in memory: aggregates, process managers, and a clock of its own.

    story = Story(Order, StockItem, Fulfilment)
    story.send(ReceiveStock(sku="tea", quantity=2))
    story.send(PlaceOrder(order_id=order, fulfil=True))
    story.wait(timedelta(minutes=15))
    assert story.state_of(Order, order).status is Status.CANCELLED

The real aggregates decide on the commands that a process sends, and the processes see the events
that follow, until nothing more happens. Time passes only when the test says so.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from rayfold.aggregate import Aggregate, AggregateType
from rayfold.decision import Decision, DecisionDefinition, unfit
from rayfold.errors import DomainError, Refused
from rayfold.event_checks import decided, listed, written
from rayfold.integration_event import IntegrationEvent
from rayfold.keys import key_text
from rayfold.messages import Command, Event, Message
from rayfold.process import ProcessDefinition, ProcessManager
from rayfold.process_instance import ProcessInstance, ProcessStep, Timer, refuse_unwritable, stamped
from rayfold.steps import Publish
from rayfold.unchanged import Unchanged

S = TypeVar("S", bound=Message)

Part = AggregateType | type[Decision[Any]] | type[ProcessManager[Any, Any]]


class Story:
    """What has happened so far: `events`, `refusals` of processes' commands, `now`."""

    def __init__(self, *parts: Part, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        """Raise `DomainError` if a part is declared wrongly."""
        self.now = now
        self.events: list[Event] = []
        self.published: list[IntegrationEvent] = []
        self.refusals: list[tuple[Command, Refused]] = []
        self._aggregates: dict[type[Command], AggregateType] = {}
        self._decisions: dict[type[Command], DecisionDefinition] = {}
        self._processes: list[ProcessDefinition] = []
        self._states: dict[str, Any] = {}
        self._causes: list[UUID | None] = []
        self._told = 0
        self._instances: dict[str, ProcessInstance] = {}
        self._steps: dict[str, list[ProcessStep]] = {}
        mistakes: list[str] = []
        for part in parts:
            if issubclass(part, Aggregate):
                mistakes += part.mistakes()
                self._aggregates |= dict.fromkeys(part.commands, part)
            elif issubclass(part, Decision):
                mistakes += part.__rayfold__.mistakes()
                self._decisions |= dict.fromkeys(part.__rayfold__.commands, part.__rayfold__)
            else:
                mistakes += part.__rayfold__.mistakes()
                self._processes.append(part.__rayfold__)
        if mistakes:
            raise DomainError(*mistakes)

    def send(self, command: Command) -> list[Event]:
        """Send a command from outside, and run all that follows; return the command's own events.

        Raises:
            Refused: its aggregate refuses the command.
        """
        events = self._decide(command, None)
        self._go_on()
        return events

    def wait(self, time: timedelta) -> None:
        """Let time pass; each timeout that is due runs at its own time, in order."""
        end = self.now + time
        while (found := self._next_timer()) and found[1].due <= end:
            instance, timer = found
            self.now = max(self.now, timer.due)
            step = instance.on_timer(timer, now=self.now)
            assert step is not None
            self._take(instance, step)
            self._go_on()
        self.now = end

    def abort(self, process: type[ProcessManager[Any, Any]], key: object) -> None:
        """Abort a process, as an operator does, and run everything that follows.

        Raises:
            LookupError: there is no such process, or it has ended.
        """
        instance = self.process(process, key)
        if not instance.begun or instance.ended:
            raise LookupError(f"no process {process.__rayfold__.name!r} of key {key!r} is open")
        self._take(instance, instance.on_abort((), keep=None, now=self.now))
        self._go_on()

    def state_of(self, aggregate: type[Aggregate[S, Any, Any]], aggregate_id: object) -> S:
        """Return an aggregate's state; the initial state if it has no events."""
        state: S = self._state(aggregate, aggregate.stream(aggregate_id))
        return state

    def process(self, process: type[ProcessManager[Any, Any]], key: object) -> ProcessInstance:
        """Return a process as it is now: `state`, `ended`, `timers`, whether it has `begun`."""
        definition = process.__rayfold__
        stream = definition.stream(key)
        return self._instances.get(stream) or ProcessInstance(definition, key_text(key))

    def steps_of(self, process: type[ProcessManager[Any, Any]], key: object) -> list[ProcessStep]:
        """Return what a process saw and decided, step by step."""
        return list(self._steps.get(process.__rayfold__.stream(key), ()))

    def _go_on(self) -> None:
        while True:
            if self._told < len(self.events):
                event, cause = self.events[self._told], self._causes[self._told]
                self._told += 1
                self._tell(event, cause, self._told)
            elif not self._deliver():
                return

    def _tell(self, event: Event, cause: UUID | None, position: int) -> None:
        for definition in self._processes:
            if (key := definition.key_of(event)) is None:
                continue
            stream = definition.stream(key)
            instance = self._instances.get(stream) or ProcessInstance(definition, key)
            step = instance.on_events(
                [event],
                trigger=f"story@{position}",
                position=position,
                now=self.now,
                caused_by=cause,
            )
            if step is not None:
                self._instances[stream] = instance
                self._take(instance, step)

    def _take(self, instance: ProcessInstance, step: ProcessStep) -> None:
        for each in step.decided:
            refuse_unwritable(each)
        instance.apply(step)
        self._steps.setdefault(instance.definition.stream(instance.key), []).append(step)
        self.published += [
            each.integration_event for each in step.decided if isinstance(each, Publish)
        ]

    def _deliver(self) -> bool:
        """Send the next command that a process waits with; return whether there was one."""
        for instance in self._instances.values():
            for sending in instance.waiting.values():
                try:
                    self._decide(sending.command, sending.command_id)
                except Refused as refused:
                    self.refusals.append((sending.command, refused))
                    step = instance.on_refusal(
                        sending.command_id, rule=refused.rule, detail=refused.detail, now=self.now
                    )
                    assert step is not None
                    self._take(instance, step)
                else:
                    instance.answered(sending.command_id)
                return True
        return False

    def _decide(self, command: Command, command_id: UUID | None) -> list[Event]:
        decision = self._decisions.get(type(command))
        if decision is not None:
            events = self._decide_together(decision, stamped(command, self.now))
        else:
            events = self._decide_alone(command)
        self.events += events
        self._causes += [command_id] * len(events)
        return events

    def _decide_together(self, decision: DecisionDefinition, command: Command) -> list[Event]:
        instances = decision.instances(command)
        if told := unfit(instances):
            raise ValueError(told)
        after = {each.stream: self._state(each.aggregate, each.stream) for each in instances}
        states = decision.states_for(instances, lambda each: after[each.stream])
        with Unchanged(decision.model, *after.values(), command):
            events = listed(decision.model.decide(states, command))
            for event in events:
                at = decision.instance_of(event, instances)
                written([event])
                with Unchanged(at.aggregate, event):
                    after[at.stream] = at.aggregate.fold([event], after[at.stream])
        self._states |= after
        return events

    def _decide_alone(self, command: Command) -> list[Event]:
        aggregate = self._aggregates.get(type(command))
        if aggregate is None:
            raise LookupError(f"no aggregate of the story takes {type(command).__qualname__}")
        stream = aggregate.stream(getattr(command, aggregate.id_field))
        state = self._state(aggregate, stream)
        sent = stamped(command, self.now)
        with Unchanged(aggregate, state, sent):
            events = decided(aggregate.decide(state, sent), aggregate, sent)
            with Unchanged(aggregate, *events):
                after = aggregate.fold(events, state)
        self._states[stream] = after
        return events

    def _state(self, aggregate: AggregateType, stream: str) -> Any:
        return self._states[stream] if stream in self._states else aggregate.begun()

    def _next_timer(self) -> tuple[ProcessInstance, Timer] | None:
        timers = [
            (instance, timer)
            for instance in self._instances.values()
            for timer in instance.timers.values()
        ]
        return min(timers, key=lambda found: found[1].due, default=None)
