"""Everything that a domain package declares, found by importing it."""

from __future__ import annotations

import importlib
import json
import pkgutil
import traceback
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from rayfold.aggregate import Aggregate, Storage
from rayfold.agreement import (
    derived_routes_of_two,
    disagreements,
    mistakes_of_sql,
    of_personal_data,
    tables_of_two,
)
from rayfold.decision import Decision, DecisionDefinition
from rayfold.declarations import miscalled
from rayfold.errors import DomainError, UnknownEventType, UnreadableEvent
from rayfold.folds import returns_nothing, yielding
from rayfold.integration_event import IntegrationEventDefinition
from rayfold.keys import scalar_of
from rayfold.messages import Command, CommandDefinition, Event, EventDefinition, Message
from rayfold.middleware import Middleware, MiddlewareDefinition
from rayfold.personal import plain
from rayfold.process import ProcessDefinition, ProcessManager
from rayfold.publication import Publication, PublicationDefinition
from rayfold.purity import drawing
from rayfold.query import Query, QueryDefinition
from rayfold.reactor import Reactor, ReactorDefinition
from rayfold.routes import Route
from rayfold.sql_projection import SqlProjection
from rayfold.tenants import tenant_of_stream
from rayfold.upcasting import Data, Upcaster, fingerprint_of_upcasters, upcast
from rayfold.view import View, ViewDefinition

AggregateType = type[Aggregate[Any, Any, Any]]


class Registry:
    """The commands, events, aggregates, views, queries and routes of one domain package.

    Attributes are dictionaries by stored name: `commands["add-line"]`,
    `events["LineAdded"]`, `aggregates["order"]` (by category), `views`, `projections` (custom
    SQL), `queries`, `processes`, `publications`, `integration_events`, `reactors`, `middleware`;
    `routes` is a list; `owner` gives the aggregate of a command type: the leading one, where
    `decisions` has a decision over several for that type. All but aggregates and projections are
    there as their definitions.
    """

    def __init__(
        self,
        modules: Iterable[ModuleType],
        mistakes: Iterable[str] = (),
        *,
        tenants: bool = False,
    ) -> None:
        """Register what the modules declare. `mistakes` are those that importing them met.

        `tenants`: whether all of it is some tenant's; see `rayfold.tenants`.

        Raises:
            DomainError: something is wrong; it has a sentence for each thing that is.
        """
        self.commands: dict[str, CommandDefinition] = {}
        self.events: dict[str, EventDefinition] = {}
        self.aggregates: dict[str, AggregateType] = {}
        self.views: dict[str, ViewDefinition] = {}
        self.projections: dict[str, type[SqlProjection]] = {}
        self.queries: dict[str, QueryDefinition] = {}
        self.processes: dict[str, ProcessDefinition] = {}
        self.publications: dict[str, PublicationDefinition] = {}
        self.integration_events: dict[str, IntegrationEventDefinition] = {}
        self.reactors: dict[str, ReactorDefinition] = {}
        self.middleware: dict[str, MiddlewareDefinition] = {}
        self.owner: dict[type[Command], AggregateType] = {}
        self.decisions: dict[type[Command], DecisionDefinition] = {}
        self._decisions: list[DecisionDefinition] = []
        self._named_commands: list[type[Command]] = []
        self.routes: list[Route] = []
        self._upcasters: dict[tuple[str, int], Upcaster] = {}
        self.tenants = tenants
        self._mistakes = list(mistakes)
        for module in modules:
            for member in list(vars(module).values()):
                self._add(member, module.__name__)
        if tenants:
            # The class is that of every stack which this process knows: its own definition stays.
            self.views = {name: replace(each, tenants=True) for name, each in self.views.items()}
            self._mistakes += mistakes_of_sql(self)
        for aggregate in self.aggregates.values():
            self._add_messages(aggregate)
        for decision in self._decisions:
            self._add_decision(decision)
        for publication in self.publications.values():
            self._add_carried(publication)
        try:
            self._mistakes += disagreements(self, self._decisions, self._upcasters)
        except (AttributeError, LookupError, TypeError):
            if not self._mistakes:  # else it is of what is told already
                raise
        if not self._mistakes:
            self._mistakes += [*tables_of_two(self), *derived_routes_of_two(self)]
            self._mistakes += of_personal_data(self)
            self._mistakes += [
                f"nobody decides {each.__qualname__}: add it to the commands of its Aggregate[…],"
                " or of a Decision[…]"
                for each in self._named_commands
                if each not in self.owner
            ]
        events = [*self.events.values(), *self.integration_events.values()]
        self.is_personal = not self._mistakes and (
            any(each.personal for each in events)
            or any(each.personal for each in self.commands.values())
        )
        """Whether there is personal data in the domain: its log is read and written with keys."""
        self._upcast_names = {name for name, _ in self._upcasters}
        if self._mistakes:
            raise DomainError(*dict.fromkeys(self._mistakes))
        self._tell_what_is_upcast()

    @classmethod
    def load(cls, package: str, *, tenants: bool = False) -> Registry:
        """Import `package` and all of its modules; `tenants` as in the constructor.

        Raises:
            DomainError: it cannot be imported, or something that it declares is wrong.
        """
        modules, mistakes = _import_all(package)
        registry = cls(modules, mistakes, tenants=tenants)
        if not registry.aggregates:
            raise DomainError(f"the domain {package!r} declares no aggregate")
        return registry

    def tenant_of(self, stream: str) -> str:
        """Return the tenant of an aggregate's or a process's stream; empty where there are none.

        Raises:
            NoTenant: there are, and it is of none.
        """
        return tenant_of_stream(stream) if self.tenants else ""

    def is_upcast(self, event_type: str) -> bool:
        """Return whether an old version of that event type may be another event today."""
        return event_type in self._upcast_names

    @property
    def upcasters(self) -> list[Upcaster]:
        """All of them, in one order."""
        return [self._upcasters[key] for key in sorted(self._upcasters)]

    def has_upcaster(self, event_type: str, version: int) -> bool:
        """Return whether events of that type and version are brought to the next one."""
        return (event_type, version) in self._upcasters

    def stored_as(self, events: Iterable[type[Event]]) -> list[str]:
        """Return the event types of the log that may be one of these events today."""
        return sorted({each.__rayfold__.name for each in events} | self._upcast_names)

    @cached_property
    def keyed_by(self) -> dict[type[Command], tuple[str, ...]]:
        """By type of command, its text fields that views in Postgres have as key or index.

        A field is one if the events of the command's aggregate have it too, under the same name.
        The aggregate's id is none of them: every store has rows by ids.
        """
        found = {}
        for command, aggregate in self.owner.items():
            kept = {
                field
                for view in self.views.values()
                if "postgres" in view.stores
                for event, fold in view.folds.items()
                if event in aggregate.events
                for field in (view.key, *view.indexes)
                if (field != view.key or fold.key_of is None)
                and _is_text(event, field)
                and _is_text(view.model, field)
            }
            kept.discard(aggregate.id_field)
            fields = tuple(sorted(field for field in kept if _is_text(command, field)))
            if fields:
                found[command] = fields
        return found

    @property
    def decided_together(self) -> frozenset[AggregateType]:
        """The aggregates that decisions over several read: others than their writers append."""
        return frozenset(each for one in self.decisions.values() for each in one.aggregates)

    @property
    def state_stored(self) -> list[AggregateType]:
        """The aggregates whose state is kept in tables."""
        return [each for each in self.aggregates.values() if each.storage == Storage.STATE]

    @cached_property
    def with_personal_data(self) -> frozenset[str]:
        """The categories of the aggregates whose events have some."""
        return frozenset(
            category
            for category, aggregate in self.aggregates.items()
            if aggregate.has_personal_data()
        )

    def may_know(self, stream: str, subjects: Collection[str]) -> bool:
        """Tell whether the state of a stream's aggregate may have personal data of one of these."""
        category, _, aggregate_id = stream.partition("-")
        if category not in self.with_personal_data:
            return False
        return aggregate_id in subjects or self.aggregates[category].has_data_of_others()

    @property
    def views_of_personal_data(self) -> list[str]:
        """The views, and the SQL projections, that fold events which have some.

        With an upcaster those are all: it may make any event of what it reads.
        """
        every: list[tuple[str, Iterable[type[Event]]]] = [
            *((name, view.folds) for name, view in self.views.items()),
            *((name, each.handlers) for name, each in self.projections.items()),
        ]
        return [
            name
            for name, events in every
            if self._upcasters or any(event.__rayfold__.personal for event in events)
        ]

    @property
    def prefixes(self) -> list[str]:
        """What the names of the domain's streams begin with: `["order-", "stock-"]`."""
        return sorted(f"{category}-" for category in self.aggregates)

    def prefixes_of(self, views: Iterable[ViewDefinition]) -> list[str]:
        """Return those of `prefixes` whose streams may have events that one of the views folds.

        With an upcaster those are all: it may make any event of what is on a stream.
        """
        if self._upcasters:
            return self.prefixes
        folded = {event for view in views for event in view.folds}
        return sorted(f"{each}-" for each in self.aggregates if self.has_any(each, folded))

    def has_any(self, category: str, events: Iterable[type[Event]]) -> bool:
        """Return whether the category's aggregate has one of these events."""
        aggregate = self.aggregates.get(category)
        return aggregate is not None and not {*aggregate.events}.isdisjoint(events)

    def may_be(self, event_type: str, stream: str, events: Collection[type[Event]]) -> bool:
        """Return whether a record of that type, on that stream, may be one of these events today.

        What nobody can read may be any event of the stream's aggregate.
        """
        if self.is_upcast(event_type):
            return True
        known = self.events.get(event_type)
        if known is not None:
            return known.model in events
        return self.has_any(stream.partition("-")[0], events)

    def decode(
        self, event_type: str, data: bytes, version: int, stream: str, revision: int
    ) -> list[Event]:
        """Return what an event from the log is today: one event, or what upcasters make of it.

        Raises:
            UnknownEventType: nobody declares that type.
            UnreadableEvent: the data does not fit it, also after upcasting.
        """
        known = self.events.get(event_type)
        try:
            if self.is_personal:
                data = plain(data)
            if known is not None and version == known.version:
                return [known.model.__pydantic_validator__.validate_json(data, extra="ignore")]
            return [
                self._read(name, fields, stream, revision)
                for name, fields, _ in upcast(
                    self._upcasters, event_type, json.loads(data), version
                )
            ]
        except UnknownEventType:
            raise
        except (Exception, SystemExit) as error:  # an upcaster is a user's code
            reason = str(error) if isinstance(error, ValidationError) else repr(error)
            reason = reason.replace("\n", " ")
            raise UnreadableEvent(event_type, stream, revision, reason) from error

    def _read(self, name: str, fields: Data, stream: str, revision: int) -> Event:
        known = self.events.get(name)
        if known is None:
            raise UnknownEventType(name, stream, revision)
        return known.model.model_validate_json(json.dumps(fields), extra="ignore")

    def _tell_what_is_upcast(self) -> None:
        """Let what is folded mean something else where the log is read otherwise."""
        for view in self.views.values():
            view.read_by(self._upcasters_of(view.folds))
        for aggregate in self.aggregates.values():
            aggregate.upcasters = self._upcasters_of(aggregate.events)

    def _upcasters_of(self, events: Iterable[type[Event]]) -> str:
        names = {each.__rayfold__.name for each in events}
        return fingerprint_of_upcasters(self.upcasters, names, self.events)

    def _add(self, member: Any, module: str) -> None:
        if isinstance(member, Upcaster):
            where = f"the upcaster of version {member.from_version} of {member.name!r}"
            self._mistakes += miscalled(where, member.upcast, "data")
            self._mistakes += yielding(where, member.upcast, "a list")
            self._mistakes += drawing(where, member.upcast)
            if returns_nothing(member.upcast):
                self._mistakes.append(f"{where} returns nothing: return the data, or None")
            other = self._upcasters.setdefault((member.name, member.from_version), member)
            if other is not member:
                self._mistakes.append(
                    f"two upcasters read version {member.from_version} of {member.name!r}"
                )
        elif isinstance(member, list | tuple) and any(isinstance(each, Route) for each in member):
            self._add_routes(member, module)
        elif not isinstance(member, type) or member.__module__ != module:
            return  # a class counts where it is defined, not wherever it is imported
        elif _is_base(member):
            return
        elif issubclass(member, Aggregate):
            self._register(self.aggregates, member.category, member, "category")
            self._mistakes += member.mistakes()
        elif issubclass(member, Decision):
            self._decisions.append(member.__rayfold__)
        elif issubclass(member, View):
            self._declare(self.views, member.__rayfold__, "view")
        elif issubclass(member, SqlProjection):
            self._register(self.projections, member.name, member, "projection")
            self._mistakes += member.mistakes()
        elif issubclass(member, Query):
            self._declare(self.queries, member.__rayfold__, "query")
        elif issubclass(member, ProcessManager):
            self._declare(self.processes, member.__rayfold__, "process manager")
        elif issubclass(member, Publication):
            self._declare(self.publications, member.__rayfold__, "publication")
        elif issubclass(member, Reactor):
            self._declare(self.reactors, member.__rayfold__, "reactor")
        elif issubclass(member, Middleware):
            self._declare(self.middleware, member.__rayfold__, "middleware")
        elif issubclass(member, Command) and member.__rayfold__.name:
            self._named_commands.append(member)

    def _add_routes(self, declared: Sequence[Any], module: str) -> None:
        for each in declared:
            if not isinstance(each, Route):
                self._mistakes.append(f"among the routes of {module} is {each!r}, which is none")
            elif each not in self.routes:
                mistakes = each.mistakes_of_message()
                self._mistakes += mistakes
                self.routes += [] if mistakes else [each]

    def _declare(self, known: dict[str, Any], definition: Any, kind: str) -> None:
        mistakes = definition.mistakes()
        self._mistakes += mistakes
        self._register(known, definition.name, definition, kind)

    def _register(self, known: dict[str, Any], name: str, declared: Any, kind: str) -> None:
        other = known.setdefault(name, declared)
        if other is not declared and name:
            one, two = getattr(other, "model", other), getattr(declared, "model", declared)
            self._mistakes.append(
                f"two declarations of the {kind} {name!r}: {one.__module__}.{one.__qualname__} "
                f"and {two.__module__}.{two.__qualname__}"
            )

    def _add_messages(self, aggregate: AggregateType) -> None:
        for command in aggregate.commands:
            definition = command.__rayfold__
            self._register(self.commands, definition.name, definition, "command")
            other = self.owner.setdefault(command, aggregate)
            if other is not aggregate:
                self._mistakes.append(
                    f"{command.__qualname__} is a command of both {other.__qualname__} "
                    f"and {aggregate.__qualname__}"
                )
            definition.belongs_to(aggregate.id_field)
        for event in aggregate.events:
            self._register(self.events, event.__rayfold__.name, event.__rayfold__, "event")

    def _add_decision(self, decision: DecisionDefinition) -> None:
        mistakes = decision.mistakes()
        self._mistakes += mistakes
        if mistakes:
            return
        name = decision.model.__qualname__
        self._mistakes += [
            f"{name} reads {each.__qualname__}, an aggregate that the domain lacks"
            for each in decision.aggregates
            if self.aggregates.get(each.category) is not each
        ]
        self._mistakes += [
            f"{name} reads {each.__qualname__}, which is state-stored: its row and others' events"
            ' cannot be checked in one append. Give it storage="events"'
            for each in decision.aggregates
            if each.storage == Storage.STATE
        ]
        for command in decision.commands:
            definition = command.__rayfold__
            self._register(self.commands, definition.name, definition, "command")
            other = self.decisions.get(command)
            owner = other.model if other else self.owner.get(command)
            if owner is not None:
                self._mistakes.append(
                    f"{command.__qualname__} is a command of both {owner.__qualname__} and {name}"
                )
            self.decisions[command] = decision
            self.owner[command] = decision.lead.aggregate

    def _add_carried(self, publication: PublicationDefinition) -> None:
        for carried in publication.carries:
            definition = carried.__rayfold__
            if self.integration_events.get(definition.name) is not definition:
                self._mistakes += definition.mistakes()
            self._register(
                self.integration_events, definition.name, definition, "integration event"
            )


def _is_text(message: type[Message], field: str) -> bool:
    info = message.model_fields.get(field)
    scalar = scalar_of(info) if info is not None else None
    return scalar is not None and scalar.kind is str and scalar.enum is None


def _is_base(cls: type) -> bool:
    """Tell whether a class has no name and others derive from it: it is nothing by itself."""
    declared = getattr(cls, "__rayfold__", cls)
    if isinstance(declared, DecisionDefinition):  # which has no name
        name = "" if not declared.declared else None
    else:
        name = getattr(declared, "category" if issubclass(cls, Aggregate) else "name", None)
    return name == "" and bool(cls.__subclasses__())


def _import_all(package: str) -> tuple[list[ModuleType], list[str]]:
    """Return the package's modules, and a sentence for each that cannot be imported."""
    try:
        root = importlib.import_module(package)
    except (Exception, SystemExit) as error:  # a user's code
        return [], [f"cannot import the domain {package!r}: {_told(error, package)}"]
    modules, mistakes = [root], []
    broken: list[str] = []
    found = pkgutil.walk_packages(getattr(root, "__path__", ()), f"{package}.", broken.append)
    for info in found:
        try:
            modules.append(importlib.import_module(info.name))
        except (Exception, SystemExit) as error:  # a user's code
            mistakes.append(f"cannot import {info.name}: {_told(error, package)}")
    return modules, mistakes


def _told(error: BaseException, package: str) -> str:
    """Return what an error says, and the last line of the domain's that led to it."""
    told = type(error).__name__
    if isinstance(error, ValidationError):
        each = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in (error.title, *each["loc"]))
        told = f"{where}: {each['msg']}"
    elif lines := str(error).splitlines():
        told = f"{told}: {lines[0]}"
    if isinstance(error, SyntaxError):  # it says so itself
        return told
    places = [
        f" ({Path(frame.f_code.co_filename).name}, line {line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] == package.partition(".")[0]
    ]
    return told + "".join(places[-1:])
