"""Which rows are removed when a stream is deleted on the server.

A row is the stream's own if the view keys all events of the aggregate by the aggregate's id: such a
row is removed at the deletion's position in the log, in every store and every fold. Rows to which
several streams contributed keep what this one contributed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from eventstore.deletions import deleted_stream
from eventstore.records import RawRecord
from rayfold import Registry, ViewDefinition
from rayfold.aggregate import AggregateType


class _Anything:
    """A placeholder for a field's value, used to find out which field is a view's key."""

    def __getattr__(self, name: str) -> _Anything:
        return _Anything()

    def __call__(self, *arguments: Any) -> _Anything:
        return _Anything()

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Erased(NamedTuple):
    """A deleted stream; `key` is the key of its own rows."""

    stream: str
    key: str
    views: Sequence[ViewDefinition]
    """All views that fold events of the stream."""
    own: Sequence[ViewDefinition]
    """The views that have a row of the stream's own."""


class Erasures:
    """What the deletion of a stream removes from some views."""

    def __init__(self, registry: Registry, views: Sequence[ViewDefinition]) -> None:
        self._views = {
            category: [view for view in views if registry.has_any(category, view.folds)]
            for category in registry.aggregates
        }
        self._own = {
            category: [view for view in self._views[category] if _is_own(view, of)]
            for category, of in registry.aggregates.items()
        }

    def of(self, raw: RawRecord) -> Erased | None:
        """Return what the event erases; None if nothing."""
        stream = deleted_stream(raw)
        if stream is None:
            return None
        category, dash, key = stream.partition("-")
        if not dash or category not in self._views:
            return None
        return Erased(stream, key, self._views[category], self._own[category])


def views_that_keep(registry: Registry, stream: str) -> list[str]:
    """Return the views and SQL projections that keep data of a stream after it is deleted.

    Their rows are built from events of many streams, or by the domain's own SQL statements.
    """
    category = stream.partition("-")[0]
    aggregate = registry.aggregates[category]
    concerned = [view for view in registry.views.values() if registry.has_any(category, view.folds)]
    keeping = [view.name for view in concerned if not _is_own(view, aggregate)]
    return keeping + [
        each.name
        for each in registry.projections.values()
        if registry.has_any(category, each.handlers)
    ]


def _is_own(view: ViewDefinition, aggregate: AggregateType) -> bool:
    """Return whether every event of the aggregate concerns the row under the aggregate's id."""
    for event_type in aggregate.events:
        if event_type not in view.folds:
            continue
        the_id = _Anything()
        fields: dict[str, Any] = {field: _Anything() for field in event_type.model_fields}
        fields[aggregate.id_field] = the_id
        try:
            keys = view.keys_of(event_type.model_construct(**fields))
        except (Exception, SystemExit):  # the domain's code makes the key of something else
            return False
        if not any(key is the_id for key in keys):
            return False
    return True
