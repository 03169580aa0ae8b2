"""What the modules of a domain declare, by name, and a sentence for each mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from rayfold.aggregate import Aggregate, AggregateType, Storage
from rayfold.decision import Decision, DecisionDefinition
from rayfold.declarations import miscalled
from rayfold.folds import returns_nothing, yielding
from rayfold.integration_event import IntegrationEventDefinition
from rayfold.messages import Command, CommandDefinition, EventDefinition
from rayfold.middleware import Middleware, MiddlewareDefinition
from rayfold.process import ProcessDefinition, ProcessManager
from rayfold.publication import Publication, PublicationDefinition
from rayfold.purity import drawing
from rayfold.query import Query, QueryDefinition
from rayfold.reactor import Reactor, ReactorDefinition
from rayfold.routes import Route
from rayfold.sql_projection import SqlProjection
from rayfold.upcasting import Upcaster
from rayfold.view import View, ViewDefinition


class Collected:
    """The declarations, each checked alone; `Registry` checks whether they fit together.

    Attributes are those of `Registry`; `several` has the decisions over several aggregates, in the
    order in which they were found, and `upcasters` is keyed by the name and version that they read.
    """

    def __init__(self, modules: Iterable[ModuleType], mistakes: Iterable[str]) -> None:
        """`mistakes` are those found on importing the modules."""
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
        self.routes: list[Route] = []
        self.several: list[DecisionDefinition] = []
        self.upcasters: dict[tuple[str, int], Upcaster] = {}
        self.mistakes = list(mistakes)
        self._named: list[type[Command]] = []
        for module in modules:
            for member in list(vars(module).values()):
                self._add(member, module.__name__)
        for aggregate in self.aggregates.values():
            self._add_messages(aggregate)
        for decision in self.several:
            self._add_decision(decision)
        for publication in self.publications.values():
            self._add_carried(publication)

    def undecided(self) -> Iterator[str]:
        """Yield a sentence for each named command that no aggregate and no decision takes."""
        for each in self._named:
            if each not in self.owner:
                yield (
                    f"no aggregate or decision decides {each.__qualname__}: add it to the commands"
                    " of its Aggregate[…], or of a Decision[…]"
                )

    def _add(self, member: Any, module: str) -> None:
        if isinstance(member, Upcaster):
            self._add_upcaster(member)
        elif isinstance(member, list | tuple) and any(isinstance(each, Route) for each in member):
            self._add_routes(member, module)
        elif not isinstance(member, type) or member.__module__ != module:
            return  # a class counts where it is defined, not wherever it is imported
        elif _is_base(member):
            return
        elif issubclass(member, Aggregate):
            self._register(self.aggregates, member.category, member, "category")
            self.mistakes += member.mistakes()
        elif issubclass(member, Decision):
            self.several.append(member.__rayfold__)
        elif issubclass(member, View):
            self._declare(self.views, member.__rayfold__, "view")
        elif issubclass(member, SqlProjection):
            self._register(self.projections, member.name, member, "projection")
            self.mistakes += member.mistakes()
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
            self._named.append(member)

    def _add_upcaster(self, upcaster: Upcaster) -> None:
        read = f"version {upcaster.from_version} of {upcaster.name!r}"
        where = f"the upcaster of {read}"
        self.mistakes += miscalled(where, upcaster.upcast, "data")
        self.mistakes += yielding(where, upcaster.upcast, "a list")
        self.mistakes += drawing(where, upcaster.upcast)
        if returns_nothing(upcaster.upcast):
            self.mistakes.append(f"{where} returns nothing: return the data, or None")
        other = self.upcasters.setdefault((upcaster.name, upcaster.from_version), upcaster)
        if other is not upcaster:
            self.mistakes.append(f"two upcasters read {read}")

    def _add_routes(self, declared: Sequence[Any], module: str) -> None:
        for each in declared:
            if not isinstance(each, Route):
                self.mistakes.append(
                    f"among the routes of {module} is {each!r}, which is not a Route"
                )
            elif each not in self.routes:
                mistakes = each.mistakes_of_message()
                self.mistakes += mistakes
                self.routes += [] if mistakes else [each]

    def _declare(self, known: dict[str, Any], definition: Any, kind: str) -> None:
        mistakes = definition.mistakes()
        self.mistakes += mistakes
        self._register(known, definition.name, definition, kind)

    def _register(self, known: dict[str, Any], name: str, declared: Any, kind: str) -> None:
        other = known.setdefault(name, declared)
        if other is not declared and name:
            one, two = getattr(other, "model", other), getattr(declared, "model", declared)
            self.mistakes.append(
                f"two declarations of the {kind} {name!r}: {one.__module__}.{one.__qualname__} "
                f"and {two.__module__}.{two.__qualname__}"
            )

    def _add_messages(self, aggregate: AggregateType) -> None:
        for command in aggregate.commands:
            definition = command.__rayfold__
            self._register(self.commands, definition.name, definition, "command")
            other = self.owner.setdefault(command, aggregate)
            if other is not aggregate:
                self.mistakes.append(
                    f"{command.__qualname__} is a command of both {other.__qualname__} "
                    f"and {aggregate.__qualname__}"
                )
            definition.belongs_to(aggregate.id_field)
        for event in aggregate.events:
            self._register(self.events, event.__rayfold__.name, event.__rayfold__, "event")

    def _add_decision(self, decision: DecisionDefinition) -> None:
        mistakes = decision.mistakes()
        self.mistakes += mistakes
        if mistakes:
            return
        name = decision.model.__qualname__
        self.mistakes += [
            f"{name} reads {each.__qualname__}, an aggregate that the domain lacks"
            for each in decision.aggregates
            if self.aggregates.get(each.category) is not each
        ]
        self.mistakes += [
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
                self.mistakes.append(
                    f"{command.__qualname__} is a command of both {owner.__qualname__} and {name}"
                )
            self.decisions[command] = decision
            self.owner[command] = decision.lead.aggregate

    def _add_carried(self, publication: PublicationDefinition) -> None:
        for carried in publication.carries:
            definition = carried.__rayfold__
            if self.integration_events.get(definition.name) is not definition:
                self.mistakes += definition.mistakes()
            self._register(
                self.integration_events, definition.name, definition, "integration event"
            )


def _is_base(cls: type) -> bool:
    """Return whether a class is only a base of others: it has no name and has subclasses."""
    declared = getattr(cls, "__rayfold__", cls)
    if isinstance(declared, DecisionDefinition):  # decisions have no name
        name = "" if not declared.declared else None
    else:
        name = getattr(declared, "category" if issubclass(cls, Aggregate) else "name", None)
    return name == "" and bool(cls.__subclasses__())
