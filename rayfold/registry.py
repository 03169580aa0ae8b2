"""Everything that a domain package declares, checked; all that runs a domain uses it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cached_property
from types import ModuleType

from pydantic import ValidationError

from rayfold.aggregate import AggregateType, Storage
from rayfold.agreement import (
    derived_routes_of_two,
    disagreements,
    mistakes_of_sql,
    of_personal_data,
    tables_of_two,
)
from rayfold.collected import Collected
from rayfold.domain_modules import import_all
from rayfold.errors import DomainError, UnknownEventType, UnreadableEvent
from rayfold.keys import scalar_of
from rayfold.messages import Command, Event, Message
from rayfold.personal import plain
from rayfold.tenants import tenant_of_stream
from rayfold.upcasting import Data, Upcaster, fingerprint_of_upcasters, upcast
from rayfold.view import ViewDefinition


class Registry:
    """The commands, events, aggregates, views, queries and routes of one domain package.

    Most attributes are dictionaries by stored name: `commands["add-line"]`,
    `events["LineAdded"]`, `aggregates["order"]` (by category), `views`, `projections` (custom
    SQL), `queries`, `processes`, `publications`, `integration_events`, `reactors`, `middleware`.
    Their values are definitions, except for aggregates and projections, which are classes.
    `routes` is a list. `owner` maps a command type to its aggregate; if `decisions` has a decision
    over several aggregates for that type, to the leading one.
    """

    def __init__(
        self,
        modules: Iterable[ModuleType],
        mistakes: Iterable[str] = (),
        *,
        tenants: bool = False,
    ) -> None:
        """Register what the modules declare. `mistakes` are those found on importing them.

        `tenants`: whether the stack serves tenants; see `rayfold.tenants`.

        Raises:
            DomainError: there are mistakes; it has one sentence for each.
        """
        collected = Collected(modules, mistakes)
        self.commands = collected.commands
        self.events = collected.events
        self.aggregates = collected.aggregates
        self.views = collected.views
        self.projections = collected.projections
        self.queries = collected.queries
        self.processes = collected.processes
        self.publications = collected.publications
        self.integration_events = collected.integration_events
        self.reactors = collected.reactors
        self.middleware = collected.middleware
        self.owner = collected.owner
        self.decisions = collected.decisions
        self.routes = collected.routes
        self.tenants = tenants
        self._upcasters = collected.upcasters
        self._upcast_names = {name for name, _ in self._upcasters}
        found = collected.mistakes
        if tenants:
            # The class may be used by other stacks in this process: its own definition stays as is.
            self.views = {name: replace(each, tenants=True) for name, each in self.views.items()}
            found += mistakes_of_sql(self)
        try:
            found += disagreements(self, collected.several, self._upcasters)
        except (AttributeError, LookupError, TypeError):
            if not found:  # else its mistakes would follow from those already found
                raise
        if not found:
            found += [*tables_of_two(self), *derived_routes_of_two(self)]
            found += [*of_personal_data(self), *collected.undecided()]
        if found:
            raise DomainError(*dict.fromkeys(found))
        events = [*self.events.values(), *self.integration_events.values()]
        self.is_personal = any(each.personal for each in events) or any(
            each.personal for each in self.commands.values()
        )
        """Whether the domain has personal data, so that its log is read and written with keys."""
        self._tell_what_is_upcast()

    @classmethod
    def load(cls, package: str, *, tenants: bool = False) -> Registry:
        """Import `package` and all of its modules; `tenants` as in the constructor.

        Raises:
            DomainError: it cannot be imported, or its declarations have mistakes.
        """
        modules, mistakes = import_all(package)
        registry = cls(modules, mistakes, tenants=tenants)
        if not registry.aggregates:
            raise DomainError(f"the domain {package!r} declares no aggregate")
        return registry

    def tenant_of(self, stream: str) -> str:
        """Return the tenant of an aggregate's or a process's stream; empty without tenants.

        Raises:
            NoTenant: the stack serves tenants, and the stream belongs to none.
        """
        return tenant_of_stream(stream) if self.tenants else ""

    def is_upcast(self, event_type: str) -> bool:
        """Return whether an old version of that event type may be another event today."""
        return event_type in self._upcast_names

    @property
    def upcasters(self) -> list[Upcaster]:
        """All upcasters, in a fixed order."""
        return [self._upcasters[key] for key in sorted(self._upcasters)]

    def has_upcaster(self, event_type: str, version: int) -> bool:
        """Return whether there is an upcaster from that version of that event type."""
        return (event_type, version) in self._upcasters

    def stored_as(self, events: Iterable[type[Event]]) -> list[str]:
        """Return the event types of the log that may be one of these events today."""
        return sorted({each.__rayfold__.name for each in events} | self._upcast_names)

    @cached_property
    def categories_of(self) -> dict[str, set[str]]:
        """By the name of an event, the categories of the aggregates that yield it."""
        found: dict[str, set[str]] = {}
        for category, aggregate in self.aggregates.items():
            for event in aggregate.events:
                found.setdefault(event.__rayfold__.name, set()).add(category)
        return found

    @cached_property
    def keyed_by(self) -> dict[type[Command], tuple[str, ...]]:
        """By type of command, its text fields that are a key or an index of a view in Postgres.

        A field counts if the events of the command's aggregate have it too, under the same name.
        The aggregate's id does not count: every store finds rows by ids.
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
        """The aggregates in decisions over several: not only their own writers append to them."""
        return frozenset(each for one in self.decisions.values() for each in one.aggregates)

    @property
    def state_stored(self) -> list[AggregateType]:
        """The aggregates whose state is kept in tables."""
        return [each for each in self.aggregates.values() if each.storage == Storage.STATE]

    @cached_property
    def with_personal_data(self) -> frozenset[str]:
        """The categories of the aggregates whose events have personal data."""
        return frozenset(
            category
            for category, aggregate in self.aggregates.items()
            if aggregate.has_personal_data()
        )

    def may_know(self, stream: str, subjects: Collection[str]) -> bool:
        """Return whether the stream's aggregate may have personal data of one of `subjects`."""
        category, _, aggregate_id = stream.partition("-")
        if category not in self.with_personal_data:
            return False
        return aggregate_id in subjects or self.aggregates[category].has_data_of_others()

    @property
    def views_of_personal_data(self) -> list[str]:
        """The views and SQL projections that fold events with personal data.

        In a domain with upcasters these are all of them: an upcaster may return any event.
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
        """The prefixes of the names of the domain's streams: `["order-", "stock-"]`."""
        return sorted(f"{category}-" for category in self.aggregates)

    def prefixes_of(self, views: Iterable[ViewDefinition]) -> list[str]:
        """Return those of `prefixes` whose streams may have events that one of the views folds.

        In a domain with upcasters these are all of them: an upcaster may return any event.
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

        A record that cannot be read may be any event of the stream's aggregate.
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
        """Return the events that a record of the log is today: one, or what upcasters make of it.

        Raises:
            UnknownEventType: the domain does not declare that type.
            UnreadableEvent: the data does not fit the type, even after upcasting; or a newer
                release wrote it, in whose version of the event the same fields may mean something
                else.
        """
        known = self.events.get(event_type)
        try:
            if self.is_personal:
                data = plain(data)
            if known is not None and version == known.version:
                return [known.model.__pydantic_validator__.validate_json(data, extra="ignore")]
            if known is not None and version > known.version:
                reason = f"a later release wrote it, as version {version}: here is {known.version}"
                raise UnreadableEvent(event_type, stream, revision, reason)
            return [
                self._read(name, fields, stream, revision)
                for name, fields, _ in upcast(
                    self._upcasters, event_type, json.loads(data), version
                )
            ]
        except (UnknownEventType, UnreadableEvent):
            raise
        except (Exception, SystemExit) as error:  # an upcaster is the author's code
            reason = str(error) if isinstance(error, ValidationError) else repr(error)
            reason = reason.replace("\n", " ")
            raise UnreadableEvent(event_type, stream, revision, reason) from error

    def _read(self, name: str, fields: Data, stream: str, revision: int) -> Event:
        known = self.events.get(name)
        if known is None:
            raise UnknownEventType(name, stream, revision)
        return known.model.model_validate_json(json.dumps(fields), extra="ignore")

    def _tell_what_is_upcast(self) -> None:
        """Give each aggregate and view its upcasters' fingerprint: they change what is folded."""
        for view in self.views.values():
            view.read_by(self._upcasters_of(view.folds))
        for aggregate in self.aggregates.values():
            aggregate.upcasters = self._upcasters_of(aggregate.events)

    def _upcasters_of(self, events: Iterable[type[Event]]) -> str:
        names = {each.__rayfold__.name for each in events}
        return fingerprint_of_upcasters(self.upcasters, names, self.events)


def _is_text(message: type[Message], field: str) -> bool:
    info = message.model_fields.get(field)
    scalar = scalar_of(info) if info is not None else None
    return scalar is not None and scalar.kind is str and scalar.enum is None
