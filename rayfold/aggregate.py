"""Aggregates: a decision for each command and a fold for each event, both pure."""

from __future__ import annotations

import re
import types
from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, ClassVar, Generic, Never, NoReturn, TypeVar, Union, get_args, get_origin

from rayfold.declarations import arguments_of, keywords_of, miscalled
from rayfold.field_types import mistakes_of_state
from rayfold.fingerprint import fingerprint_of, fingerprint_of_model
from rayfold.folds import returns_nothing, yielding
from rayfold.keys import key_text, may_be_none, scalar_of
from rayfold.messages import Command, Event, Message
from rayfold.purity import drawing
from rayfold.state_layout import Layout, layout_of
from rayfold.tenants import within
from rayfold.unchanged import fresh

S = TypeVar("S", bound=Message)
C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)

_CATEGORY = re.compile(r"[a-z][a-z0-9_]*\Z")

OUR_CATEGORIES = ("snapshot", "discarded", "process", "rayfold")
"""Categories of the streams that Rayfold itself writes; no aggregate may use them."""


class Placement(StrEnum):
    """Where the single writer of an aggregate lives."""

    SHARDED = "sharded"
    """An entity with its own mailbox, in a host actor that serves many aggregates. For many
    short-lived aggregates."""

    DEDICATED = "dedicated"
    """A Ray actor for each instance, created on first use. For aggregates that are few, busy
    and long-lived: an actor is a process of 55 MB."""


class Storage(StrEnum):
    """Where the state of an aggregate is stored. Its events are on the log in either case."""

    EVENTS = "events"
    """Only in its events: the state is the fold of them."""

    STATE = "state"
    """In Postgres tables that are derived from the state's model; see `StateStored`."""


class Aggregate(ABC, Generic[S, C, E]):
    """A consistency boundary: `class Order(Aggregate[State, Commands, Events], …)`.

    The type arguments are the state (a frozen `Message`), the union of its commands (`Never`
    if only decisions over several aggregates change it) and the union of its events. The
    runtime reads them from there. Class keywords:

    - `category`: stream names are `<category>-<id>`. It is lower case and has no dash, because
      the server too takes everything before a stream name's first dash as the category.
    - `id_field`: the field of every command, and of every event, that holds the id.
    - `initial`: the state before the first event.
    - `placement`: see `Placement`.
    - `fold_version`: raise it when the meaning of `evolve` changes in code that Rayfold does not
      see, in a library for instance; Rayfold notices other changes itself. Snapshots that another
      fold made are ignored, and new ones are taken.
    - `snapshot_every`: events between two snapshots.
    - `storage`: see `Storage`. It can be changed at any time: the log has all events either way.
    - `keep_commands`: whether each command is written to the log with its first event, so that
      `rayfold counterfactual` can decide it again. Off by default: what is on the log stays
      there, and a command may hold data that no event has.
    """

    category: ClassVar[str]
    id_field: ClassVar[str]
    initial: ClassVar[Any]
    state_type: ClassVar[type[Message]]
    commands: ClassVar[tuple[type[Command], ...]]
    events: ClassVar[tuple[type[Event], ...]]
    placement: ClassVar[Placement]
    fold_version: ClassVar[int]
    snapshot_every: ClassVar[int]
    storage: ClassVar[Storage]
    default_storage: ClassVar[Storage] = Storage.EVENTS
    keep_commands: ClassVar[bool]
    upcasters: ClassVar[str] = ""
    """Fingerprint of the upcasters of the aggregate's events; see `Registry`."""

    def __init_subclass__(
        cls,
        *,
        category: str = "",
        id_field: str = "",
        initial: Message | None = None,
        placement: Placement = Placement.SHARDED,
        fold_version: int = 1,
        snapshot_every: int = 500,
        storage: Storage | None = None,
        keep_commands: bool = False,
        **kwargs: Any,
    ) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        cls.storage = cls.default_storage if storage is None else storage
        cls.category = category
        cls.id_field = id_field
        cls.initial = initial
        cls.placement = placement
        cls.fold_version = fold_version
        cls.snapshot_every = snapshot_every
        cls.keep_commands = keep_commands
        cls.state_type, cls.commands, cls.events = _type_arguments(cls)

    @staticmethod  # not abstract: an aggregate that takes no commands does not define it
    def decide(state: S, command: C) -> Iterable[E]:
        """Return the events that the command leads to in this state.

        Pure and synchronous: no clock, no randomness, no I/O. It may run more than once for
        a command, again on a later state, when another writer appended first.

        Raises:
            Rejected: a business rule forbids the command.
            NotFound: the aggregate has no events yet.
        """
        raise NotImplementedError

    @staticmethod
    @abstractmethod
    def evolve(state: S, event: E) -> S:
        """Return the state after the event. Pure; it must accept every event, which is a fact."""

    @classmethod
    def has_personal_data(cls) -> bool:
        """Return whether the aggregate's events have personal data."""
        return any(event.__rayfold__.personal for event in cls.events)

    @classmethod
    def has_data_of_others(cls) -> bool:
        """Return whether its events may have personal data of subjects other than itself."""
        return any(
            each.subject not in ("", cls.id_field)
            for event in cls.events
            for each in event.__rayfold__.personal.values()
        )

    @classmethod
    def stream(cls, aggregate_id: object, tenant: str = "") -> str:
        """Return the name of an instance's stream: `order-<uuid>`; a tenant's `order-acme:<uuid>`.

        See `rayfold.tenants`.
        """
        if tenant:
            return f"{cls.category}-{within(tenant, key_text(aggregate_id))}"
        return f"{cls.category}-{key_text(aggregate_id)}"

    @classmethod
    def begun(cls) -> S:
        """Return the state before the first event, as an object of the caller's own."""
        state: S = fresh(cls.initial)
        return state

    @classmethod
    def fold(cls, events: Iterable[E], state: S | None = None) -> S:
        """Return the state after all of `events`, from `state` (the initial one by default).

        Raises:
            TypeError: `evolve` returned something other than a state.
        """
        folded: S = cls.begun() if state is None else state
        for event in events:
            folded = cls.evolve(folded, event)
        if not isinstance(folded, cls.state_type):
            raise TypeError(
                f"evolve returned a {type(folded).__qualname__},"
                f" not a {cls.state_type.__qualname__}"
            )
        return folded

    @classmethod
    def fold_fingerprint(cls) -> str:
        """Return a text that changes whenever the same events may fold to another state."""
        code = fingerprint_of(cls.evolve, cls.initial)
        model = fingerprint_of_model(cls.state_type)
        return f"{cls.fold_version} {code} {model}{cls.upcasters}"

    @classmethod
    def layout(cls) -> Layout:
        """Return the table layout of the state, even if the aggregate is not state-stored."""
        return layout_of(cls.category, cls.state_type)

    @classmethod
    def mistakes(cls) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        name, found = cls.__qualname__, []
        if not isinstance(cls.category, str) or not _CATEGORY.match(cls.category):
            told = f"{name}: a category is a to z, digits and _, without a dash"
            found.append(f"{told}; got {cls.category!r}")
        elif cls.category in OUR_CATEGORIES:
            found.append(f"{name}: Rayfold keeps streams of its own in {cls.category!r}")
        if not cls.events:
            found.append(f"{name} must derive from Aggregate[State, Commands, Events]")
        elif not isinstance(cls.initial, cls.state_type):
            found.append(f"{name} needs initial=…, a {cls.state_type.__qualname__}")
        if cls.snapshot_every < 1:
            found.append(f"{name}: snapshot_every is 1 or more, not {cls.snapshot_every}")
        found += cls._mistakes_of_methods()
        if not cls.id_field:
            found.append(f'{name} needs id_field="…", the field of every message that holds the id')
        state_mistakes = mistakes_of_state(name, cls.state_type)
        found += state_mistakes
        if cls.storage not in list(Storage):
            found.append(f"{name}: storage is one of {', '.join(Storage)}, not {cls.storage!r}")
        elif cls.storage == Storage.STATE and not state_mistakes:
            found += [f"{name}: {mistake}" for mistake in cls.layout().mistakes]
        messages: tuple[type[Command] | type[Event], ...] = (*cls.commands, *cls.events)
        for message in messages:
            found += message.__rayfold__.mistakes()
            if cls.id_field:
                found += _mistakes_of_id(message, cls.id_field)
        return found

    @classmethod
    def _mistakes_of_methods(cls) -> list[str]:
        name, found = cls.__qualname__, []
        takes = {"decide": "command", "evolve": "event"} if cls.commands else {"evolve": "event"}
        for method, what in takes.items():
            function = getattr(cls, method)
            if function is getattr(Aggregate, method):
                found.append(f"{name} needs a static method `{method}`")
                continue
            found += miscalled(f"{name}.{method}", function, "state", what)
            if method == "evolve":
                found += yielding(f"{name}.evolve", function, "the state")
                found += drawing(f"{name}.evolve", function)
            if returns_nothing(function):
                gives = "the events, or raise Rejected" if method == "decide" else "the state"
                found.append(f"{name}.{method} returns nothing: return {gives}")
        return found


AggregateType = type[Aggregate[Any, Any, Any]]
"""Any aggregate class."""


def _mistakes_of_id(message: type[Command] | type[Event], id_field: str) -> list[str]:
    info, where = message.model_fields.get(id_field), f"{message.__qualname__}.{id_field}"
    if info is None:
        return [f"{message.__qualname__} has no field {id_field!r}, the id"]
    if scalar_of(info) is None:
        return [f"{where} cannot be an id: not a scalar"]
    if may_be_none(info):
        return [f"{where} may be None, but an id always has a value: remove None"]
    return []


def _type_arguments(
    cls: type,
) -> tuple[type[Message], tuple[type[Command], ...], tuple[type[Event], ...]]:
    if arguments := arguments_of(cls, Aggregate):
        state, commands, events = arguments
        found = state, _commands(commands), union_members(events)
        if all(isinstance(each, type) for each in (state, *found[1], *found[2])):
            return found
    return Message, (), ()


def _commands(declared: Any) -> tuple[Any, ...]:
    return () if declared in (Never, NoReturn) else union_members(declared)


def union_members(union: Any) -> tuple[Any, ...]:
    """Return the members of a union; anything else is returned as the only member."""
    if get_origin(union) in (Union, types.UnionType):
        return get_args(union)
    return (union,)
