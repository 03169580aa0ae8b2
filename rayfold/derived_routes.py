"""Routes that the gateway adds to a domain's own: a row's history, past and live states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rayfold.aggregate import AggregateType
from rayfold.composed import ComposedQuery
from rayfold.query import PageQuery, Query
from rayfold.routes import Route
from rayfold.sql_query import SqlQuery
from rayfold.view import ViewDefinition

if TYPE_CHECKING:
    from rayfold.registry import Registry

HISTORY = "/history"
LIVE = "/live"


def shown_by(registry: Registry, view: ViewDefinition) -> AggregateType | None:
    """Return the aggregate by whose id the view's rows are keyed; None if there is none.

    A row may fold events of other instances too.
    """
    for aggregate in registry.aggregates.values():
        if view.key == aggregate.id_field and set(view.folds) <= set(aggregate.events):
            return aggregate
    return None


def followed_by(registry: Registry, view: ViewDefinition) -> AggregateType | None:
    """Return the aggregate of which each row follows exactly one instance; None if there is none.

    Such a row is keyed by the aggregate's id and folds only the events of that instance: its
    revision is the aggregate's, and its past can be folded from that one stream.
    """
    if any(fold.key_of is not None for fold in view.folds.values()):
        return None
    return shown_by(registry, view)


def row_of(declared: Route) -> ViewDefinition | None:
    """Return the view of which a route answers the row with the key in its path; else None."""
    message: Any = declared.message
    if declared.method != "GET" or not issubclass(message, Query):
        return None
    if issubclass(message, PageQuery | SqlQuery | ComposedQuery):
        return None
    view: ViewDefinition = message.__rayfold__.view
    return view if declared.parameters == (view.key,) else None


def aggregate_of(registry: Registry, declared: Route) -> AggregateType | None:
    """Return the aggregate that the route's row follows; None if it follows none, or many."""
    view = row_of(declared)
    return None if view is None else followed_by(registry, view)


def is_live(declared: Route) -> bool:
    """Return whether the route has a live stream: only memory replicas announce changes."""
    view = row_of(declared)
    return view is not None and "memory" in view.stores


def derived(registry: Registry, declared: Route) -> list[str]:
    """Return the shapes of the paths that the gateway adds to a route."""
    found = []
    if declared.history and aggregate_of(registry, declared) is not None:
        found.append(declared.shape + HISTORY)
    if is_live(declared):
        found.append(declared.shape + LIVE)
    return found
