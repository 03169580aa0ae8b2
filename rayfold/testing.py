"""Given, when, then: tests of a domain's rules, without infrastructure.

given(Order, OrderCreated(...)).when(PlaceOrder(...)).then_rejected("empty-order")
given(Fulfilment, FulfilmentRequested(...)).when(OrderPaid(...)).then(Send(ShipOrder(...)))
given(Redeem, CouponIssued(...), CustomerJoined(...)).when(RedeemCoupon(...)).then(...)
given(StockLevels, StockReceived(...)).when(StockReserved(...)).then(StockLevels(...))
given(with_currency).when({"sku": "tea"}).then(LineAdded(sku="tea", currency="EUR"))
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from rayfold import given_rows
from rayfold.aggregate import Aggregate
from rayfold.decision import Decision, unfit
from rayfold.errors import DomainError, NotFound, Refused, Rejected
from rayfold.event_checks import decided, listed, written
from rayfold.given_rows import GivenView
from rayfold.given_upcasters import GivenUpcasters
from rayfold.integration_event import IntegrationEvent
from rayfold.messages import Command, Event
from rayfold.process import Aborted, Happened, ProcessDefinition, ProcessManager
from rayfold.process_instance import refuse_unwritable, stamped
from rayfold.publication import Publication
from rayfold.steps import Complete, Send, Step
from rayfold.story import Story
from rayfold.unchanged import Unchanged, fresh
from rayfold.upcasting import Upcaster
from rayfold.view import View

V = TypeVar("V", bound=View)

__all__ = [
    "Decided",
    "Given",
    "GivenDecision",
    "GivenProcess",
    "GivenUpcasters",
    "GivenView",
    "Reaction",
    "Story",
    "given",
    "published",
    "rows_of",
]


class Decided:
    """What a command led to. Each `then…` raises `AssertionError` if that was something else."""

    def __init__(self, events: list[Event], refusal: Refused | None, state: Any) -> None:
        self.events = events
        self.refusal = refusal
        self.state = state

    def then(self, *expected: Event) -> Any:
        """Expect exactly these events, in this order; return the state after them.

        For a decision over several aggregates, return the states by the names in its `reads`.
        """
        assert self.refusal is None, f"refused: {self.refusal.rule}: {self.refusal}"
        assert self.events == list(expected), f"{self.events} is not {list(expected)}"
        return self.state

    def then_rejected(self, rule: str) -> None:
        """Expect that this rule refuses the command."""
        self._then_refused(Rejected, rule)

    def then_not_found(self) -> None:
        """Expect that the command is refused, because the aggregate does not exist."""
        self._then_refused(NotFound, None)

    def _then_refused(self, kind: type[Refused], rule: str | None) -> None:
        assert self.refusal is not None, f"not refused, but led to {self.events}"
        assert isinstance(self.refusal, kind), f"{self.refusal!r} is not a {kind.__name__}"
        if rule is not None:
            assert self.refusal.rule == rule, f"refused by {self.refusal.rule!r}, not {rule!r}"


class Given:
    """The past events of an aggregate."""

    def __init__(self, aggregate: type[Aggregate[Any, Any, Any]], events: tuple[Event, ...]):
        if mistakes := aggregate.mistakes():
            raise DomainError(*mistakes)
        for event in events:
            if type(event) not in aggregate.events:
                raise LookupError(f"{aggregate.__qualname__} has no {type(event).__qualname__}")
        self._aggregate, self._past = aggregate, events
        self._state = aggregate.begun()
        with Unchanged(aggregate, self._state, *events):
            self._state = aggregate.fold(events, self._state)

    def when(self, command: Command) -> Decided:
        """Decide on the command, and fold the events that it leads to.

        Raises:
            LookupError: the command is for another aggregate than the events.
            InvalidEvent, ValueError: an event could not be written: see `event_checks`.
        """
        name, field = type(command).__qualname__, self._aggregate.id_field
        if type(command) not in self._aggregate.commands:
            raise LookupError(f"{self._aggregate.__qualname__} takes no {name}")
        stream = self._aggregate.stream(getattr(command, field))
        for event in self._past:
            if self._aggregate.stream(getattr(event, field)) != stream:
                told = f"{name} is for {stream!r}, where no {type(event).__qualname__} of the past"
                raise LookupError(f"{told} has happened: it has another {field}")
        try:
            with Unchanged(self._aggregate, self._state, command):
                events = decided(
                    self._aggregate.decide(self._state, command), self._aggregate, command
                )
                with Unchanged(self._aggregate, *events):
                    after = self._aggregate.fold(events, self._state)
        except Refused as refusal:
            return Decided([], refusal, self._state)
        return Decided(events, None, after)


class GivenDecision:
    """The past events of all aggregates that a decision over several may read."""

    def __init__(self, decision: type[Decision[Any]], events: tuple[Event, ...]) -> None:
        self._definition = decision.__rayfold__
        if mistakes := self._definition.mistakes():
            raise DomainError(*mistakes)
        self._states: dict[str, Any] = {}
        for event in events:
            aggregate = self._definition.aggregate_of.get(type(event))
            if aggregate is None:
                name = type(event).__qualname__
                raise LookupError(f"no aggregate that {decision.__qualname__} reads has {name}")
            stream = aggregate.stream(getattr(event, aggregate.id_field))
            state = self._states[stream] if stream in self._states else aggregate.begun()
            with Unchanged(aggregate, state, event):
                self._states[stream] = aggregate.fold([event], state)

    def when(self, command: Command) -> Decided:
        """Decide on the command, and fold each event that it leads to into its own aggregate.

        Raises:
            LookupError: the command belongs to another decision.
            InvalidEvent: the decision returns no events, or too many.
            ValueError: it reads the same aggregate twice, or too many; it returns an event of an
                aggregate that it did not read, or an event that could not be written.
        """
        if type(command) not in self._definition.commands:
            name = type(command).__qualname__
            raise LookupError(f"{self._definition.model.__qualname__} takes no {name}")
        instances = self._definition.instances(command)
        if told := unfit(instances):
            raise ValueError(told)
        after = {
            each.stream: self._states[each.stream]
            if each.stream in self._states
            else each.aggregate.begun()
            for each in instances
        }
        states = self._definition.states_for(instances, lambda each: after[each.stream])
        try:
            with Unchanged(self._definition.model, *after.values(), command):
                events = listed(self._definition.model.decide(states, command))
                for event in events:
                    at = self._definition.instance_of(event, instances)
                    written([event])
                    with Unchanged(at.aggregate, event):
                        after[at.stream] = at.aggregate.fold([event], after[at.stream])
        except Refused as refusal:
            return Decided([], refusal, states)
        found = self._definition.states_for(instances, lambda each: after[each.stream])
        return Decided(events, None, found)


class Reaction:
    """What a process does next. Each `then…` raises `AssertionError` if that is something else."""

    def __init__(self, steps: list[Step], state: Any) -> None:
        self.steps = steps
        self.state = state

    def then(self, *expected: Step) -> Any:
        """Expect exactly these steps, in this order; return the state after what happened.

        Fields that the server supplies, such as `Now`, are not compared.
        """
        found, wanted = [*map(_timeless, self.steps)], [*map(_timeless, expected)]
        assert found == wanted, f"{self.steps} is not {list(expected)}"
        return self.state

    def then_nothing(self) -> Any:
        """Expect no step; return the state after what happened."""
        return self.then()


class GivenProcess:
    """The past of a process: the events, timeouts and refusals that it got."""

    def __init__(self, definition: ProcessDefinition, past: tuple[Happened, ...]) -> None:
        if mistakes := definition.mistakes():
            raise DomainError(*mistakes)
        self._definition = definition
        self._state: Any = fresh(definition.initial)
        self._begun = self._ended = False
        self._key = ""
        for happened in past:
            self._tell(happened)

    def when(self, happened: Happened) -> Reaction:
        """Return the process's reaction to this: none if it has not begun, or has ended.

        Raises:
            LookupError: the event concerns the process of another key.
            ValueError: a step could not be written.
        """
        before = self._state, self._begun, self._ended, self._key
        try:
            steps = self._tell(happened)
            return Reaction(steps, self._state)
        finally:
            self._state, self._begun, self._ended, self._key = before

    def _tell(self, happened: Happened) -> list[Step]:
        begins = isinstance(happened, Event) and self._definition.begins_with(happened)
        if isinstance(happened, Event):
            key = self._definition.key_of(happened)
            if key is None:
                return []
            self._refuse_key(happened, key)
        if self._ended or not (self._begun or begins):
            return []
        self._begun = True
        with Unchanged(self._definition.model, self._state):
            if not isinstance(happened, Aborted) or self._definition.on_abort is not None:
                self._state = self._definition.evolve(self._state, happened)
            steps = self._definition.react(self._state, happened)
        self._ended = any(isinstance(step, Complete) for step in steps)
        for step in steps:
            refuse_unwritable(step)
        return steps

    def _refuse_key(self, event: Event, key: str) -> None:
        self._key = self._key or key
        if key != self._key:
            name = type(event).__qualname__
            raise LookupError(
                f"{name} is told to the process {key!r}, and what was before it to {self._key!r}"
            )


def _timeless(step: Step) -> Step:
    return Send(stamped(step.command, _SOME_TIME)) if isinstance(step, Send) else step


_SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)


@overload
def given(what: type[Aggregate[Any, Any, Any]], *past: Event) -> Given: ...
@overload
def given(what: type[Decision[Any]], *past: Event) -> GivenDecision: ...
@overload
def given(what: type[ProcessManager[Any, Any]], *past: Happened) -> GivenProcess: ...
@overload
def given(what: type[View], *past: Event) -> GivenView: ...
@overload
def given(what: Upcaster, *past: Upcaster) -> GivenUpcasters: ...
def given(
    what: Any, *past: Any
) -> Given | GivenDecision | GivenProcess | GivenView | GivenUpcasters:
    """Return an aggregate, a process, a view, or what a decision reads, after these events.

    Or upcasters that read old records, each one what the one before has returned.

    Raises:
        DomainError: the declaration is wrong.
        TypeError: it cannot be tested like this, or a class is given instead of an event.
    """
    _refuse_classes(past)
    if isinstance(what, Upcaster):
        return GivenUpcasters(what, *past)
    if not isinstance(what, type) or what in (Aggregate, Decision, ProcessManager, View):
        raise TypeError(f"given takes a class of the domain or an upcaster, not {what!r}")
    if issubclass(what, View):
        return GivenView(what, past)
    if issubclass(what, ProcessManager):
        return GivenProcess(what.__rayfold__, past)
    if issubclass(what, Decision):
        return GivenDecision(what, past)
    if issubclass(what, Aggregate):
        return Given(what, past)
    raise TypeError(
        f"given does not take {what.__qualname__}: it is not an aggregate, a decision, a process"
        " manager or a view"
    )


def rows_of(view: type[V], *events: Event) -> dict[Any, V]:
    """Return the view's rows by key after these events, as if they were the whole log."""
    _refuse_classes(events)
    return given_rows.rows_of(view, events)


def _refuse_classes(past: tuple[Any, ...]) -> None:
    """Raise TypeError for a class: no fold is for it, so that a test would pass for nothing."""
    for each in past:
        if isinstance(each, type):
            name = each.__qualname__
            raise TypeError(f"{name} is a class: give what happened, {name}(…)")


def published(publication: type[Publication[Any]], *events: Event) -> list[IntegrationEvent]:
    """Return the integration events that the publication derives from these events.

    Raises:
        ValueError: one of them could not be published: it has no key, or JSON would change it.
    """
    definition = publication.__rayfold__
    if mistakes := definition.mistakes():
        raise DomainError(*mistakes)
    told = [each for event in events for each in definition.derive(event)]
    for each in told:
        definition.key_of(each)
        type(each).__rayfold__.encode(each)
    return told
