"""Process managers: coordination between aggregates, as a fold and handlers, both pure.

    class Delivery(
        ProcessManager[DeliveryState, OrderPaid | ParcelLost],
        name="delivery",
        key="order_id",
        initial=DeliveryState(),
    ):
        @staticmethod
        def evolve(state, happened): ...

        @staticmethod
        @starts(OrderPaid)
        def paid(state: DeliveryState, event: OrderPaid) -> Iterator[Step]:
            yield Send(PackParcel(order_id=event.order_id))
            yield Schedule("late", after=timedelta(days=3))

        @staticmethod
        @on_timeout("late")
        def late(state: DeliveryState, timeout: TimedOut) -> Iterator[Step]: ...

An event with a `@starts` handler begins a process; other events for a key without a process are
ignored. What happened is folded before its handler runs, so that handlers see the state after it.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID, uuid5

from rayfold.aggregate import union_members
from rayfold.declarations import arguments_of, keywords_of, miscalled, misnamed, too_long
from rayfold.field_types import mistakes_of_state
from rayfold.fingerprint import fingerprint_of, fingerprint_of_model
from rayfold.folds import (
    Fold,
    folds_of,
    mark_in,
    members_of,
    mistaken_key,
    refuse_bare,
    returns_nothing,
    said_twice,
    taking_another,
    yielding,
)
from rayfold.keys import key_text, scalar_of
from rayfold.messages import Command, Event, Message
from rayfold.purity import drawing
from rayfold.steps import Complete, Publish, Schedule, Send, Step, Unschedule

S = TypeVar("S", bound=Message)
E = TypeVar("E", bound=Event)
C = TypeVar("C", bound=Command)
F = TypeVar("F", bound=Callable[..., Any])

MAX_STEPS = 1000
"""The most steps that one handler may yield: all of them are recorded in one event."""

MAX_NAME = 48

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_TIMEOUTS = "__rayfold_timeouts__"
_REJECTIONS = "__rayfold_rejections__"
_ABORT = "__rayfold_abort__"
_COMMAND_IDS = UUID("5d6f0c3a-6f0e-5c1b-9d57-3c6a4f0b8e21")


@dataclass(frozen=True)
class TimedOut:
    """A timeout that the process has scheduled is over. `due` is the time it was scheduled for."""

    name: str
    due: datetime


@dataclass(frozen=True)
class CommandRejected(Generic[C]):
    """A command that the process sent was refused, so nothing was appended.

    `rule` and `detail` are those of `Rejected` or `NotFound`.
    """

    command: C
    rule: str
    detail: str = ""


@dataclass(frozen=True)
class Aborted:
    """An operator aborts the process. Only managers with an `@on_abort` handler receive it."""


Happened = Event | TimedOut | CommandRejected[Any] | Aborted
"""What a process receives."""

WITHDRAWN = "withdrawn"
"""The rule of `CommandRejected` for a command that was not yet sent when its process was aborted.
The state is folded over it, but no handler is called."""


def on_timeout(*names: str) -> Callable[[F], F]:
    """Mark a static method `(state, timed_out) -> steps` as the handler of these timeouts."""
    refuse_bare("on_timeout", names, '"name"')
    return _marked(_TIMEOUTS, names)


def on_rejected(*commands: type[Command]) -> Callable[[F], F]:
    """Mark a static method `(state, rejected) -> steps` as the handler of these refused commands.

    Here a saga compensates: it yields the commands that undo its work, in the order to send them.
    """
    refuse_bare("on_rejected", commands, "Command")
    return _marked(_REJECTIONS, commands)


def on_abort(function: F) -> F:
    """Mark a static method `(state, aborted) -> steps` as the handler of an operator's abort.

    It yields the compensation, in the order in which to send it. The process then goes on as
    usual until a handler completes it. Without such a handler, an abort ends it at once.
    """
    mark_in(sys._getframe(1).f_locals, function, _ABORT, (Aborted,))
    return function


def _marked(attribute: str, what: tuple[Any, ...]) -> Callable[[F], F]:
    def mark(function: F) -> F:
        mark_in(sys._getframe(1).f_locals, function, attribute, what)
        return function

    return mark


@dataclass(frozen=True, eq=False)
class ProcessDefinition:
    """What a process manager declares; see `ProcessManager` for the keywords."""

    model: type[ProcessManager[Any, Any]]
    name: str
    key: str
    initial: Message | None
    fold_version: int
    max_chain: int
    state_type: type[Message]
    events: tuple[type[Event], ...]

    @cached_property
    def handlers(self) -> dict[type[Event], Fold]:
        """The handler of each event type that has one."""
        return {fold.event_type: fold for _, fold in folds_of(self.model)}

    @cached_property
    def timeouts(self) -> dict[str, Callable[..., Iterable[Step]]]:
        """The handler of each timeout."""
        return {name: handler for _, handler, name in _marks_of(self.model, _TIMEOUTS)}

    @cached_property
    def rejections(self) -> dict[type[Command], Callable[..., Iterable[Step]]]:
        """The handler of each refused command."""
        return {command: handler for _, handler, command in _marks_of(self.model, _REJECTIONS)}

    @cached_property
    def on_abort(self) -> Callable[..., Iterable[Step]] | None:
        """The handler of an abort, if there is one."""
        return next((handler for _, handler, _ in _marks_of(self.model, _ABORT)), None)

    @property
    def prefix(self) -> str:
        """The prefix of the names of its processes' streams."""
        return f"process-{self.name}-"

    @cached_property
    def fingerprint(self) -> str:
        """Text that changes whenever the same history may fold to another state."""
        code = fingerprint_of(self.model.evolve, self.initial)
        return f"{self.fold_version} {code} {fingerprint_of_model(self.state_type)}"

    def stream(self, key: object) -> str:
        """Return the name of a process's stream: `process-<name>-<key>`."""
        return f"{self.prefix}{key_text(key)}"

    def key_of(self, event: Event) -> str | None:
        """Return the key, as text, of the process that an event concerns; None if of no process.

        Raises:
            ValueError: the key is empty.
            Exception: the author's code raised it.
        """
        if type(event) not in self.events:
            return None
        fold = self.handlers.get(type(event))
        value = fold.key_of(event) if fold and fold.key_of else getattr(event, self.key, None)
        if value is None:
            return None
        if not (text := key_text(value)):
            raise ValueError("a process's key is empty")
        return text

    def begins_with(self, event: Event) -> bool:
        """Return whether the event begins a process where there is none."""
        fold = self.handlers.get(type(event))
        return fold is not None and fold.starts

    def evolve(self, state: Any, happened: Happened) -> Any:
        """Return the state after what happened.

        Raises:
            TypeError: `evolve` returned something other than a state.
            Exception: whatever the author's code raises.
        """
        after = self.model.evolve(state, happened)
        if not isinstance(after, self.state_type):
            raise TypeError(
                f"evolve returned a {type(after).__qualname__},"
                f" not a {self.state_type.__qualname__}"
            )
        return after

    def react(self, state: Any, happened: Happened) -> list[Step]:
        """Return the steps that the process takes next; `state` is the state after what happened.

        Raises:
            NobodyHandles: a refused command or a timeout has no handler, or a step schedules a
                timeout that has none.
            TypeError, ValueError: a handler yields something that is not a step, or too many steps.
            Exception: whatever the author's code raises.
        """
        if isinstance(happened, TimedOut):
            handler = self.timeouts.get(happened.name)
            if handler is None:
                raise NobodyHandles(f"no @on_timeout({happened.name!r}) in {self.name!r}")
        elif isinstance(happened, CommandRejected):
            handler = self.rejections.get(type(happened.command))
            if handler is None:
                name = type(happened.command).__qualname__
                raise NobodyHandles(
                    f"no @on_rejected({name}) in {self.name!r}: {happened.rule}: {happened.detail}"
                )
        elif isinstance(happened, Aborted):
            if self.on_abort is None:
                return [Complete()]
            handler = self.on_abort
        else:
            fold = self.handlers.get(type(happened))
            if fold is None:
                return []
            handler = fold.apply
        steps = list(islice(handler(state, happened), MAX_STEPS + 1))
        if len(steps) > MAX_STEPS:
            raise ValueError(f"a handler yields more than {MAX_STEPS} steps")
        for step in steps:
            if not isinstance(step, Send | Schedule | Unschedule | Publish | Complete):
                raise TypeError(
                    f"a handler yielded a {type(step).__qualname__}, which is not a step"
                )
            # Raised now and not when the timeout is due, so that a test sees it. `Unschedule` needs
            # no handler: a release that has dropped the handler uses it to cancel timeouts that
            # the release before has scheduled.
            if isinstance(step, Schedule) and step.timeout_name not in self.timeouts:
                raise NobodyHandles(f"no @on_timeout({step.timeout_name!r}) in {self.name!r}")
        return steps

    def command_id(self, key: str, trigger: str, index: int) -> UUID:
        """Return the id of the `index`th command that a process sends because of `trigger`."""
        return uuid5(_COMMAND_IDS, f"{self.stream(key)} {trigger} {index}")

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        cls, name = self.model, self.model.__qualname__
        # No dash: else process `a` with the key `b-c` and `a-b` with `c` would share a stream.
        found = misnamed(cls, self.name, _NAME, "lower case without a dash, like 'fulfilment'")
        found += too_long(cls, "name", self.name, MAX_NAME)
        if not self.events:
            found.append(f"{name} must derive from ProcessManager[State, Events]")
        elif not isinstance(self.initial, self.state_type):
            found.append(f"{name} needs initial=…, a {self.state_type.__qualname__}")
        found += mistakes_of_state(name, self.state_type)
        if cls.evolve is ProcessManager.evolve:
            found.append(f"{name} needs a static method `evolve`")
        else:
            found += miscalled(f"{name}.evolve", cls.evolve, "state", "happened")
            found += yielding(f"{name}.evolve", cls.evolve, "the state")
            found += drawing(f"{name}.evolve", cls.evolve)
            if returns_nothing(cls.evolve):
                found.append(f"{name}.evolve returns nothing: return the state")
        if self.max_chain < 1:
            found.append(f"{name}: max_chain is 1 or more, not {self.max_chain}")
        if not self.key:
            found.append(f'{name} needs key="…", the field of its events that says which process')
        return found + self._mistakes_of_handlers() + self._mistakes_of_keys()

    def _mistakes_of_handlers(self) -> list[str]:
        name, found = self.model.__qualname__, said_twice(self.model)
        first: dict[Any, str] = {}
        marks = [
            *((member, fold.apply, fold.event_type) for member, fold in folds_of(self.model)),
            *_marks_of(self.model, _TIMEOUTS),
            *_marks_of(self.model, _REJECTIONS),
            *_marks_of(self.model, _ABORT),
        ]
        for member, handler, what in marks:
            where = f"{name}.{member}"
            if other := first.get(what):
                found.append(f"{where} and {other} are both for {_said(what)}: remove one")
            first.setdefault(what, member)
            found += miscalled(where, handler, "state", "happened")
            found += drawing(where, handler)
            if isinstance(what, type) and issubclass(what, Event | Command):
                found += taking_another(where, handler, what, 1)
            if returns_nothing(handler):
                found.append(f"{where} yields nothing: take it out, or let it yield steps")
        for member, fold in folds_of(self.model):
            found += mistaken_key(f"{name}.{member}", fold)
            if fold.event_type not in self.events:
                found.append(
                    f"{name}.{member} is for {_said(fold.event_type)}, which {name} does not see: "
                    "add it to ProcessManager[State, Events]"
                )
        for member, _, command in _marks_of(self.model, _REJECTIONS):
            if not (isinstance(command, type) and issubclass(command, Command)):
                found.append(
                    f"{name}.{member} is marked for {_said(command)}, which is not a command"
                )
        for member, _, timeout in _marks_of(self.model, _TIMEOUTS):
            if not (isinstance(timeout, str) and timeout):
                found.append(f"{name}.{member} is marked for the timeout {timeout!r}: name it")
        if not any(fold.starts for fold in self.handlers.values()):
            found.append(f"{name}: no process ever begins; mark a handler with @starts")
        return found

    def _mistakes_of_keys(self) -> list[str]:
        name, found = self.model.__qualname__, []
        for event in self.events:
            fold = self.handlers.get(event)
            if not self.key or (fold and fold.key_of):
                continue
            info = event.model_fields.get(self.key)
            if info is None:
                found.append(
                    f"{event.__qualname__} has no field {self.key!r}, the key of {name}: "
                    "give its handler key=…"
                )
            elif scalar_of(info) is None:
                found.append(f"{event.__qualname__}.{self.key} cannot be a key: not a scalar")
        return found


class NobodyHandles(Exception):
    """A process received something that it has no handler for."""


class ProcessManager(ABC, Generic[S, E]):
    """Reacts to events of many aggregates: `class Delivery(ProcessManager[State, Events], …)`.

    The type arguments are its state (a frozen `Message`) and the union of the events that it
    sees. Each instance has a stream `process-<name>-<key>`, which records what it received,
    decided and sent, and the answers. Class keywords:

    - `name`: lower case, without a dash.
    - `key`: the field of the events that says which process they concern. `@on(Event, key=…)`
      replaces it for one handler; a key of None means that the event concerns no process.
    - `initial`: the state before anything happened.
    - `fold_version`: as for an aggregate.
    - `max_chain`: how many commands a process may send, each because of the one before, with no
      outside event and no time between them. A process that loops beyond it is parked.
    """

    __rayfold__: ClassVar[ProcessDefinition]

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        key: str = "",
        initial: Message | None = None,
        fold_version: int = 1,
        max_chain: int = 100,
        **kwargs: Any,
    ) -> None:
        with keywords_of(cls, kwargs):
            super().__init_subclass__(**kwargs)
        cls.__rayfold__ = ProcessDefinition(
            cls, name, key, initial, fold_version, max_chain, *_type_arguments(cls)
        )

    @staticmethod
    @abstractmethod
    def evolve(state: S, happened: E | TimedOut | CommandRejected[Any]) -> S:
        """Return the state after what happened. Pure; it must accept all that can happen.

        In a manager with an `@on_abort` handler, `happened` may also be `Aborted`.
        """


def _marks_of(cls: type, attribute: str) -> list[tuple[str, Callable[..., Any], Any]]:
    """Return name, function and mark of each member of a class or its bases with this mark."""
    return [
        (name, function, what)
        for name, function in members_of(cls).items()
        for what in getattr(function, attribute, ())
    ]


def _said(what: Any) -> str:
    if isinstance(what, type):
        return what.__qualname__
    return f"the timeout {what!r}"


def _type_arguments(cls: type) -> tuple[type[Message], tuple[type[Event], ...]]:
    if arguments := arguments_of(cls, ProcessManager):
        state, events = arguments
        found = state, union_members(events)
        if isinstance(state, type) and all(_is_event(each) for each in found[1]):
            return found
    return Message, ()


def _is_event(member: Any) -> bool:
    return isinstance(member, type) and issubclass(member, Event)
