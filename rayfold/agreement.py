"""Checks that take two declarations: whether the parts of a domain fit together.

Each returns a sentence for every mistake. Checks of a single declaration are methods of its class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rayfold.aggregate import AggregateType, Storage
from rayfold.decision import DecisionDefinition
from rayfold.derived_routes import derived
from rayfold.integration_event import IntegrationEvent
from rayfold.messages import Command
from rayfold.personal import personal_fields
from rayfold.routes import Route
from rayfold.sql_query import SqlQueryDefinition

if TYPE_CHECKING:
    from rayfold.registry import Registry


def disagreements(
    registry: Registry,
    decisions: Sequence[DecisionDefinition],
    upcasters: Collection[tuple[str, int]],
) -> list[str]:
    """Return the mistakes between declarations; `upcasters` are events' names and versions."""
    return [
        *_of_aggregates(registry, decisions),
        *_of_views(registry),
        *_of_processes(registry),
        *_of_publications(registry),
        *_of_reactors(registry),
        *_of_middleware(registry),
        *_of_queries(registry),
        *_of_routes(registry),
        *_of_upcasters(registry, upcasters),
    ]


def derived_routes_of_two(registry: Registry) -> Iterator[str]:
    """Yield the mistakes in routes that the gateway adds, in a domain without other mistakes."""
    taken = {route.shape: route for route in registry.routes if route.method == "GET"}
    for route in registry.routes:
        for shape in derived(registry, route):
            if shape in taken:
                yield (
                    f"the route GET {taken[shape].path} is the gateway's own, which it adds to"
                    f" GET {route.path}: choose another last segment"
                )


def mistakes_of_sql(registry: Registry) -> Iterator[str]:
    """Yield a sentence for each SQL projection or query that does not take the tenant."""
    for projection in registry.projections.values():
        for event, handler in projection.handlers.items():
            if not _takes_tenant(handler):
                yield (
                    f"{projection.__qualname__} handles {event.__qualname__} for all tenants alike:"
                    ' let the handler take `tenant: str = ""` too'
                )
    for query in registry.queries.values():
        if isinstance(query, SqlQueryDefinition) and not _takes_tenant(query.model.statement):
            yield (
                f"{query.model.__qualname__} asks for the rows of all tenants:"
                ' let its `statement` take `tenant: str = ""`'
            )


def _takes_tenant(function: Callable[..., Any]) -> bool:
    return "tenant" in inspect.signature(function).parameters


def tables_of_two(registry: Registry) -> Iterator[str]:
    """Yield the mistakes between tables of states, in a domain without other mistakes."""
    owner: dict[str, AggregateType] = {}
    for aggregate in registry.state_stored:
        for table in aggregate.layout().tables:
            other = owner.setdefault(table.name, aggregate)
            if other is not aggregate:
                yield (
                    f"the states of {other.__qualname__} and {aggregate.__qualname__} both need"
                    f" a table {table.name!r}: rename a field"
                )


def of_personal_data(registry: Registry) -> Iterator[str]:
    """Yield the mistakes in personal data, in a domain without other mistakes.

    A field that identifies a subject or a row cannot be personal data: forgotten, it would have the
    same value for all.
    """
    yield from _plain_personal_data(registry)
    for aggregate in registry.aggregates.values():
        yield from _personal_data_of_aggregate(aggregate)
    for command, decision in registry.decisions.items():
        personal = command.__rayfold__.personal
        for field, each in personal.items():
            if not each.subject:
                yield f"{command.__qualname__}.{field}: say whose it is, with subject="
        for read in decision.reads.values():
            if isinstance(read.by, str) and read.by in personal:
                yield (
                    f"{command.__qualname__}.{read.by} is the id of"
                    f" {read.aggregate.__qualname__}, and cannot be personal data"
                )
    yield from _personal_keys(registry)


def _personal_data_of_aggregate(aggregate: AggregateType) -> Iterator[str]:
    own = aggregate.id_field
    messages: list[Any] = [*aggregate.commands, *aggregate.events]
    for one in messages:
        if own in one.__rayfold__.personal:
            yield f"{one.__qualname__}.{own} is an aggregate's id, and cannot be personal data"
    if aggregate.storage == Storage.STATE and aggregate.has_data_of_others():
        yield (
            f"{aggregate.__qualname__} is state-stored, and has personal data of others than"
            ' its id says: nobody would know which rows to forget. Give it storage="events"'
        )


def _personal_keys(registry: Registry) -> Iterator[str]:
    for view in registry.views.values():
        for event, fold in view.folds.items():
            if fold.key_of is None and view.key in event.__rayfold__.personal:
                yield (
                    f"{view.model.__qualname__} has its rows by {view.key!r}, which is personal"
                    f" data in {event.__qualname__}: all who are forgotten would share one"
                )
    for process in registry.processes.values():
        for event in process.events:
            handler = process.handlers.get(event)
            if process.key in event.__rayfold__.personal and not (handler and handler.key_of):
                yield (
                    f"{process.model.__qualname__} has its processes by {process.key!r}, which is"
                    f" personal data in {event.__qualname__}: all who are forgotten would share one"
                )
    for publication in registry.publications.values():
        for carried in publication.carries:
            if publication.key in carried.__rayfold__.personal:
                yield (
                    f"{publication.model.__qualname__} has its order by {publication.key!r}, which"
                    f" is personal data in {carried.__qualname__}: keys are in the clear"
                )


def _plain_personal_data(registry: Registry) -> Iterator[str]:
    """Yield a sentence for each personal field that would be stored in the clear."""
    models = [
        *(each.state_type for each in registry.aggregates.values()),
        *(each.state_type for each in registry.processes.values()),
        *(each.model for each in registry.views.values()),
        *(each.model for each in registry.queries.values()),
    ]
    for model in dict.fromkeys(models):
        for field in personal_fields(model, ""):
            yield (
                f"{model.__qualname__}.{field} is Personal, which makes no difference there: only"
                " commands and events are encrypted, and what is made of them is made again"
            )


def _unknown(registry: Registry, who: str, events: Iterable[Any]) -> Iterator[str]:
    """Yield a sentence, which begins with `who`, for each event class that no aggregate yields."""
    declared = {each.model for each in registry.events.values()}
    for event in events:
        if isinstance(event, type) and event not in declared:
            yield f"{who} {event.__qualname__}, which no aggregate yields"


def _of_aggregates(registry: Registry, decisions: Sequence[DecisionDefinition]) -> Iterator[str]:
    changed = [each for decision in decisions for each in decision.mentioned]
    for each in registry.aggregates.values():
        if each.events and not each.commands and each not in changed:
            yield f"{each.__qualname__} takes no command, and no decision reads it"


def _of_views(registry: Registry) -> Iterator[str]:
    for view in registry.views.values():
        yield from _unknown(registry, f"{view.model.__qualname__} is for", view.folds)
    for each in registry.projections.values():
        yield from _unknown(registry, f"{each.__qualname__} is for", each.handlers)
    # Operators rebuild and scale both by name, and both are named so in Postgres.
    for name in registry.views.keys() & registry.projections.keys():
        yield f"both a view and a projection are named {name!r}"


def _of_processes(registry: Registry) -> Iterator[str]:
    for process in registry.processes.values():
        name = process.model.__qualname__
        yield from _unknown(registry, f"{name} sees", process.events)
        for command in process.rejections:
            if issubclass(command, Command) and command not in registry.owner:
                told = f"{name} is told when {command.__qualname__} is rejected"
                yield f"{told}, which no aggregate takes"


def _of_publications(registry: Registry) -> Iterator[str]:
    for aggregate in registry.aggregates.values():
        for event in aggregate.events:
            if issubclass(event, IntegrationEvent):
                told = f"{event.__qualname__} is an integration event"
                yield f"{told}: {aggregate.__qualname__} yields facts"
    for publication in registry.publications.values():
        name = publication.model.__qualname__
        yield from _unknown(registry, f"{name} is for", publication.handlers)
        if not publication.handlers and not registry.processes:
            yield f"{name}: nothing is ever published; mark a handler with @on"


def _of_reactors(registry: Registry) -> Iterator[str]:
    for reactor in registry.reactors.values():
        yield from _unknown(registry, f"{reactor.model.__qualname__} is for", reactor.handlers)
    # Operators find what is parked by the name of a view, a projection or a reactor.
    for name in registry.reactors.keys() & (registry.views.keys() | registry.projections.keys()):
        yield f"both a reactor and a view or projection are named {name!r}"


def _of_middleware(registry: Registry) -> Iterator[str]:
    first: dict[int, str] = {}
    for each in registry.middleware.values():
        name = each.model.__qualname__
        other = first.setdefault(each.order, name)
        if other != name:
            yield f"{other} and {name} both have order={each.order}: say which is around the other"


def _of_queries(registry: Registry) -> Iterator[str]:
    known: set[type] = {view.model for view in registry.views.values()}
    known |= {*registry.projections.values()}
    for query in registry.queries.values():
        asked = getattr(query, "view_type", None) or getattr(query, "projection_type", None)
        if asked is not None and asked not in known:
            kind = "projection" if isinstance(query, SqlQueryDefinition) else "view"
            told = f"{query.model.__qualname__} asks {asked.__qualname__}"
            yield f"{told}, a {kind} that the domain lacks"


def _of_routes(registry: Registry) -> Iterator[str]:
    seen: dict[tuple[str, str], Route] = {}
    for route in registry.routes:
        message = route.message
        owner = registry.owner.get(message) if issubclass(message, Command) else None
        if issubclass(message, Command) and owner is None:
            yield f"{message.__qualname__} has a route and no aggregate"
        yield from route.mistakes(_id_field_of(registry, message))
        other = seen.setdefault((route.method, route.shape), route)
        if other is not route:
            yield f"two routes are {route.method} {route.shape}"


def _id_field_of(registry: Registry, message: type) -> str | None:
    """Return the field with the id of the leading aggregate; None if a function returns the id."""
    decision = registry.decisions.get(message)
    if decision is not None:
        return decision.lead.by if isinstance(decision.lead.by, str) else None
    owner = registry.owner.get(message)
    return owner.id_field if owner else None


def _of_upcasters(registry: Registry, upcasters: Collection[tuple[str, int]]) -> Iterator[str]:
    for name, version in upcasters:
        event = registry.events.get(name)
        if event is None:
            continue
        if version >= event.version:
            yield (
                f"an upcaster reads version {version} of {name!r}, which is at version "
                f"{event.version}: there is nothing to read"
            )
        elif version + 1 < event.version and (name, version + 1) not in upcasters:
            yield f"an upcaster reads version {version} of {name!r}, none reads {version + 1}"
