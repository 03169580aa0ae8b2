"""Everything that a domain package declares, found by importing it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from rayfold.aggregate import Aggregate
from rayfold.errors import DomainError, UnknownEventType, UnreadableEvent
from rayfold.messages import Command, Event
from rayfold.query import Query
from rayfold.routes import Route
from rayfold.sql import SqlProjection
from rayfold.sql_query import SqlQuery
from rayfold.upcasting import Upcaster
from rayfold.view import View

AggregateType = type[Aggregate[Any, Any, Any]]


class Registry:
    """The commands, events, aggregates, views, queries and routes of one domain package.

    Attributes are dictionaries by stored name: `commands["add-line"]`,
    `events["LineAdded"]`, `aggregates["order"]` (by category), `views`, `projections` (custom
    SQL), `queries`; `routes` is a list; `owner` gives the aggregate of a command type.
    """

    def __init__(self, modules: Iterable[ModuleType]) -> None:
        self.commands: dict[str, type[Command]] = {}
        self.events: dict[str, type[Event]] = {}
        self.aggregates: dict[str, AggregateType] = {}
        self.views: dict[str, type[View]] = {}
        self.projections: dict[str, type[SqlProjection]] = {}
        self.queries: dict[str, type[Query]] = {}
        self.owner: dict[type[Command], AggregateType] = {}
        self.routes: list[Route] = []
        self._upcasters: dict[tuple[str, int], Upcaster] = {}
        for module in modules:
            for member in list(vars(module).values()):
                self._add(member, module.__name__)
        for aggregate in self.aggregates.values():
            self._add_messages(aggregate)
        self._check_names()

    @classmethod
    def load(cls, package: str) -> Registry:
        """Imports `package` and all of its modules.

        Raises:
            DomainError: it cannot be imported, or declares nothing, or something twice.
        """
        try:
            root = importlib.import_module(package)
            modules = [root]
            for info in pkgutil.walk_packages(getattr(root, "__path__", ()), f"{package}."):
                modules.append(importlib.import_module(info.name))
        except ImportError as error:
            raise DomainError(f"cannot import the domain {package!r}: {error}") from error
        registry = cls(modules)
        if not registry.aggregates:
            raise DomainError(f"the domain {package!r} declares no aggregate")
        return registry

    @property
    def prefixes(self) -> list[str]:
        """What the names of the domain's streams begin with: `["order-", "stock-"]`."""
        return sorted(f"{category}-" for category in self.aggregates)

    def decode(
        self, event_type: str, data: bytes, version: int, stream: str, revision: int
    ) -> Event:
        """An event from the log, in today's shape.

        Raises:
            UnknownEventType: nobody declares that type.
            UnreadableEvent: the data does not fit it, also after upcasting.
        """
        known = self.events.get(event_type)
        try:
            if known is not None and version == known.version:
                return known.__pydantic_validator__.validate_json(data)  # type: ignore[no-any-return]
            event_type, fields = self._upcast(event_type, json.loads(data), version)
            known = self.events.get(event_type)
            if known is None:
                raise UnknownEventType(event_type, stream, revision)
            return known.model_validate_json(json.dumps(fields))
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            reason = str(error).replace("\n", " ")
            raise UnreadableEvent(event_type, stream, revision, reason) from error

    def _upcast(self, name: str, data: dict[str, Any], version: int) -> tuple[str, dict[str, Any]]:
        while step := self._upcasters.get((name, version)):
            result = step.upcast(data)
            name, data = result if isinstance(result, tuple) else (name, result)
            version += 1
        return name, data

    def _add(self, member: Any, module: str) -> None:
        if isinstance(member, Upcaster):
            self._upcasters[member.name, member.from_version] = member
        elif isinstance(member, list) and member and isinstance(member[0], Route):
            self.routes += [route for route in member if route not in self.routes]
        elif not isinstance(member, type) or member.__module__ != module:
            return  # a class counts where it is defined, not wherever it is imported
        elif issubclass(member, Aggregate):
            _register(self.aggregates, member.category, member, "category")
        elif issubclass(member, View):
            _register(self.views, member.name, member, "view")
        elif issubclass(member, SqlProjection):
            _register(self.projections, member.name, member, "projection")
        elif issubclass(member, Query):
            _register(self.queries, member.name, member, "query")

    def _check_names(self) -> None:
        # Operators rebuild, scale and mend both by name, and Postgres keeps both by it.
        for name in self.views.keys() & self.projections.keys():
            raise DomainError(f"both a view and a projection are named {name!r}")
        for query in self.queries.values():
            if issubclass(query, SqlQuery) and query.projection.name not in self.projections:
                raise DomainError(f"{query.name!r} asks a projection that the domain lacks")

    def _add_messages(self, aggregate: AggregateType) -> None:
        for command in aggregate.commands:
            _register(self.commands, command.name, command, "command")
            self.owner[command] = aggregate
        for event in aggregate.events:
            _register(self.events, event.name, event, "event")


def _register(known: dict[str, Any], name: str, declared: Any, kind: str) -> None:
    other = known.setdefault(name, declared)
    if other is not declared:
        raise DomainError(
            f"two declarations of the {kind} {name!r}: "
            f"{other.__module__}.{other.__qualname__} and "
            f"{declared.__module__}.{declared.__qualname__}"
        )
