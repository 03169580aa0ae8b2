"""Given, when, then: a domain's rules as tests, without any infrastructure.

given(Order, OrderCreated(...)).when(PlaceOrder(...)).then_rejected("empty-order")
"""

from __future__ import annotations

from typing import Any

from rayfold.aggregate import Aggregate
from rayfold.errors import DomainError, NotFound, Refused, Rejected
from rayfold.messages import Command, Event
from rayfold.recorded import RecordedEvent
from rayfold.view import VersionedRow, View

__all__ = ["Decision", "Given", "given", "rows_of"]


class Decision:
    """What a command led to. Each `then…` raises `AssertionError` if it was otherwise."""

    def __init__(self, events: list[Event], refusal: Refused | None, state: Any) -> None:
        self.events = events
        self.refusal = refusal
        self.state = state

    def then(self, *expected: Event) -> Any:
        """Exactly these events, in this order; gives the state after them."""
        assert self.refusal is None, f"refused: {self.refusal.rule}: {self.refusal}"
        assert self.events == list(expected), f"{self.events} is not {list(expected)}"
        return self.state

    def then_rejected(self, rule: str) -> None:
        """Refused by that rule."""
        self._then_refused(Rejected, rule)

    def then_not_found(self) -> None:
        """Refused, because the aggregate was never begun."""
        self._then_refused(NotFound, None)

    def _then_refused(self, kind: type[Refused], rule: str | None) -> None:
        assert self.refusal is not None, f"not refused, but led to {self.events}"
        assert isinstance(self.refusal, kind), f"{self.refusal!r} is no {kind.__name__}"
        if rule is not None:
            assert self.refusal.rule == rule, f"refused by {self.refusal.rule!r}, not {rule!r}"


class Given:
    """An aggregate's past."""

    def __init__(self, aggregate: type[Aggregate[Any, Any, Any]], events: tuple[Event, ...]):
        if mistakes := aggregate.mistakes():
            raise DomainError(*mistakes)
        self._aggregate = aggregate
        self._state = aggregate.fold(events)

    def when(self, command: Command) -> Decision:
        """Decide on the command; fold what it led to."""
        try:
            events = list(self._aggregate.decide(self._state, command))
        except Refused as refusal:
            return Decision([], refusal, self._state)
        return Decision(events, None, self._aggregate.fold(events, self._state))


def given(aggregate: type[Aggregate[Any, Any, Any]], *events: Event) -> Given:
    """Return an aggregate that these events have happened to."""
    return Given(aggregate, events)


def rows_of(view: type[View], *events: Event) -> dict[Any, Any]:
    """Return the view's rows by key after these events, as if they were the whole log."""
    definition = view.__rayfold__
    rows: dict[str, VersionedRow] = {}
    keys: dict[str, Any] = {}
    for position, event in enumerate(events):
        recorded = RecordedEvent(event, "", position, position, {})
        for change in definition.changes_of([recorded]):
            keys.setdefault(change.key, change.value)
            row = definition.fold(rows.get(change.key), recorded, change.value)
            if row is None:
                rows.pop(change.key, None)
            else:
                rows[change.key] = row
    return {keys[text]: versioned.row for text, versioned in rows.items()}
