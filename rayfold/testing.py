"""Given, when, then: a domain's rules as tests, without any infrastructure.

given(Order, OrderCreated(...)).when(PlaceOrder(...)).then_rejected("empty-order")
"""

from __future__ import annotations

from typing import Any

from rayfold.aggregate import Aggregate
from rayfold.errors import NotFound, Refused, Rejected
from rayfold.messages import Command, Event
from rayfold.recorded import RecordedEvent
from rayfold.view import VersionedRow, View


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
        self._aggregate = aggregate
        self._state = aggregate.fold(events)

    def when(self, command: Command) -> Decision:
        """Decides on the command; folds what it led to."""
        try:
            events = list(self._aggregate.decide(self._state, command))
        except Refused as refusal:
            return Decision([], refusal, self._state)
        return Decision(events, None, self._aggregate.fold(events, self._state))


def given(aggregate: type[Aggregate[Any, Any, Any]], *events: Event) -> Given:
    """An aggregate that these events have happened to."""
    return Given(aggregate, events)


def rows_of(view: type[View], *events: Event) -> dict[Any, Any]:
    """The view's rows by key after these events, as if they were the whole log."""
    rows: dict[Any, VersionedRow] = {}
    for position, event in enumerate(events):
        key = view.key_of(event)
        if key is None:
            continue
        entry = view.fold(rows.get(key), RecordedEvent(event, "", position, position, {}))
        if entry is None:
            rows.pop(key, None)
        else:
            rows[key] = entry
    return {key: entry.row for key, entry in rows.items()}
