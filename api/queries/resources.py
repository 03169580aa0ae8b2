"""Which routes answer with the row of a single aggregate."""

from __future__ import annotations

from typing import Any

from rayfold import ComposedQuery, PageQuery, Registry, Route, SqlQuery
from rayfold.registry import AggregateType


def aggregate_of(registry: Registry, declared: Route) -> AggregateType | None:
    """Return the aggregate that the route's row follows; None if it follows none, or many.

    Such a row is keyed by the aggregate's id and folds that aggregate's events only: its
    revision is the aggregate's, and its past can be folded from the one stream.
    """
    message: Any = declared.message
    if declared.method != "GET" or issubclass(message, PageQuery | SqlQuery | ComposedQuery):
        return None
    view = message.__rayfold__.view
    for aggregate in registry.aggregates.values():
        if (
            declared.parameters == (aggregate.id_field,)
            and view.key == aggregate.id_field
            and set(view.folds) <= set(aggregate.events)
        ):
            return aggregate
    return None


def is_live(registry: Registry, declared: Route) -> bool:
    """Tell whether the route's row can be followed: memory replicas alone tell of changes."""
    message: Any = declared.message
    return (
        aggregate_of(registry, declared) is not None and "memory" in message.__rayfold__.view.stores
    )


def needs_of(message: Any) -> str:
    """Return the permission that a command or a query needs; empty if none."""
    needs: str = message.__rayfold__.needs
    return needs
