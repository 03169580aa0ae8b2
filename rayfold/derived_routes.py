"""Routes that the gateway adds to a domain's own: the past of a row, and the row as it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rayfold.composed import ComposedQuery
from rayfold.query import PageQuery, Query
from rayfold.routes import Route
from rayfold.sql_query import SqlQuery

if TYPE_CHECKING:
    from rayfold.registry import AggregateType, Registry

HISTORY = "/history"
LIVE = "/live"


def aggregate_of(registry: Registry, declared: Route) -> AggregateType | None:
    """Return the aggregate that the route's row follows; None if it follows none, or many.

    Such a row is keyed by the aggregate's id and folds that aggregate's events only: its
    revision is the aggregate's, and its past can be folded from the one stream.
    """
    message: Any = declared.message
    if declared.method != "GET" or not issubclass(message, Query):
        return None
    if issubclass(message, PageQuery | SqlQuery | ComposedQuery):
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


def derived(registry: Registry, declared: Route) -> list[str]:
    """Return the shapes of the paths that the gateway adds to a route."""
    found = []
    if aggregate_of(registry, declared) is not None:
        found.append(declared.shape + HISTORY)
    if is_live(registry, declared):
        found.append(declared.shape + LIVE)
    return found
