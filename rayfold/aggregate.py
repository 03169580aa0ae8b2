"""Aggregates: a decision for each command and a fold for each event, both pure."""

from __future__ import annotations

import re
import types
from abc import ABC, abstractmethod
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar, Union, get_args, get_origin

from rayfold.errors import DomainError
from rayfold.messages import Command, Event, Message

S = TypeVar("S", bound=Message)
C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)

_CATEGORY = re.compile(r"[a-z][a-z0-9_]*\Z")


class Placement(StrEnum):
    """Where the single writer of an aggregate lives."""

    SHARDED = "sharded"
    """An entity with a mailbox of its own in a host actor that serves many. For many,
    short-lived aggregates."""

    DEDICATED = "dedicated"
    """A Ray actor for each instance, made on first use. For few, hot, long-lived ones:
    an actor is a process of 55 MB."""


class Aggregate(ABC, Generic[S, C, E]):
    """A consistency boundary: `class Order(Aggregate[State, Commands, Events], …)`.

    The type arguments are the state (a frozen `Message`), the union of its commands and
    the union of its events; the runtime reads them from there. Class keywords:

    - `category`: stream names are `<category>-<id>`; lower case, without a dash, because
      everything before a stream name's first dash is its category for the server too.
    - `id_field`: the field of every command, and of every event, that holds the id.
    - `initial`: the state before the first event.
    - `placement`: see `Placement`.
    - `fold_version`: raise it when `evolve` or the state changes meaning; snapshots of
      another version are then ignored and taken again.
    - `snapshot_every`: events between two snapshots.
    """

    category: ClassVar[str]
    id_field: ClassVar[str]
    initial: ClassVar[Message]
    state_type: ClassVar[type[Message]]
    commands: ClassVar[tuple[type[Command], ...]]
    events: ClassVar[tuple[type[Event], ...]]
    placement: ClassVar[Placement]
    fold_version: ClassVar[int]
    snapshot_every: ClassVar[int]

    def __init_subclass__(
        cls,
        *,
        category: str,
        id_field: str,
        initial: Message,
        placement: Placement = Placement.SHARDED,
        fold_version: int = 1,
        snapshot_every: int = 500,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if not _CATEGORY.match(category):
            raise DomainError(
                f"{cls.__qualname__}: a category is lower case without a dash; got {category!r}"
            )
        cls.category = category
        cls.id_field = id_field
        cls.initial = initial
        cls.placement = placement
        cls.fold_version = fold_version
        cls.snapshot_every = snapshot_every
        cls.state_type, cls.commands, cls.events = _type_arguments(cls)
        for message in (*cls.commands, *cls.events):
            if id_field not in message.model_fields:
                raise DomainError(f"{message.__qualname__} has no field {id_field!r}, the id")

    @staticmethod
    @abstractmethod
    def decide(state: Any, command: Any) -> Iterable[Event]:
        """The events that the command leads to in this state.

        Pure and synchronous: no clock, no randomness, no I/O. It may be run more than
        once for a command, on a later state, when another writer was faster.

        Raises:
            Rejected: a rule says no.
            NotFound: the aggregate was never begun.
        """

    @staticmethod
    @abstractmethod
    def evolve(state: Any, event: Any) -> Any:
        """The state after the event. Pure and total: an event is a fact, not a request."""

    @classmethod
    def stream(cls, aggregate_id: object) -> str:
        """The name of an instance's stream: `order-<uuid>`."""
        return f"{cls.category}-{aggregate_id}"

    @classmethod
    def fold(cls, events: Iterable[Event], state: Any = None) -> Any:
        """The state after all of `events`, from `state` (the initial one by default)."""
        folded = cls.initial if state is None else state
        for event in events:
            folded = cls.evolve(folded, event)
        return folded


def _type_arguments(
    cls: type,
) -> tuple[type[Message], tuple[type[Command], ...], tuple[type[Event], ...]]:
    for base in getattr(cls, "__orig_bases__", ()):
        if get_origin(base) is Aggregate:
            state, commands, events = get_args(base)
            return state, _members(commands), _members(events)
    raise DomainError(f"{cls.__qualname__} must derive from Aggregate[State, Commands, Events]")


def _members(union: Any) -> tuple[Any, ...]:
    if get_origin(union) in (Union, types.UnionType):
        return get_args(union)
    return (union,)
