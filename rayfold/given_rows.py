"""Given/when/then tests of views: the rows that events lead to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rayfold.errors import DomainError
from rayfold.messages import Event
from rayfold.recorded import RecordedEvent
from rayfold.unchanged import Unchanged
from rayfold.view import VersionedRow, View


class GivenView:
    """A view and its past events. Each `then…` raises `AssertionError` if the rows differ."""

    def __init__(self, view: type[View], events: tuple[Event, ...]) -> None:
        """Raise `DomainError` if the view's declaration has mistakes."""
        if mistakes := view.__rayfold__.mistakes():
            raise DomainError(*mistakes)
        self._view = view
        self._events = events

    @property
    def rows(self) -> dict[Any, Any]:
        """All rows of the view, by key."""
        return rows_of(self._view, self._events)

    def when(self, *events: Event) -> GivenView:
        """Append further events."""
        return GivenView(self._view, (*self._events, *events))

    def then(self, *expected: View) -> None:
        """Assert that exactly these rows exist, in any order."""
        rows = list(self.rows.values())
        assert len(rows) == len(expected), f"{rows} are not {list(expected)}"
        for each in expected:
            assert each in rows, f"{each} is none of {rows}"

    def then_nothing(self) -> None:
        """Assert that there are no rows."""
        self.then()


def rows_of(view: type[View], events: Iterable[Event]) -> dict[Any, Any]:
    """Return the view's rows by key after these events, as if they were the whole log."""
    definition = view.__rayfold__
    rows: dict[str, VersionedRow] = {}
    keys: dict[str, Any] = {}
    for position, event in enumerate(events):
        recorded = RecordedEvent(event, "", position, position, {})
        for change in definition.changes_of([recorded]):
            keys.setdefault(change.key, change.value)
            with Unchanged(view, event):  # a fold may change its row in place, but not the event
                row = definition.fold(rows.get(change.key), recorded, change.value)
            if row is None:
                rows.pop(change.key, None)
            else:
                rows[change.key] = row
    return {keys[text]: versioned.row for text, versioned in rows.items()}
