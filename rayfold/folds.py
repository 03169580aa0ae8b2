"""Folds: the decorators that say which function folds which event, and their checks."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from rayfold.declarations import miscalled
from rayfold.messages import Command, Event, Message
from rayfold.purity import drawing

KeyOf = Callable[[Any], Any]
F = TypeVar("F", bound=Callable[..., Any])

_FOLDS = "__rayfold_folds__"
_INSTEAD = "__rayfold_instead__"


@dataclass(frozen=True)
class Fold:
    """How one event type changes a row.

    `apply` is `(event) -> row` or `(event, key) -> row` if it starts a row, else
    `(row, event) -> row or None`.
    """

    event_type: type[Event]
    key_of: KeyOf | None
    starts: bool
    apply: Callable[..., Any]
    wants_key: bool = False


def starts(*event_types: type[Event], key: KeyOf | None = None) -> Callable[[F], F]:
    """Mark a static method `(event) -> row` that begins a row (or begins it again).

    `key` is a function that returns the row's key from the event; by default the key is the
    event's field of that name. It may return a list of keys: then the event begins a row
    under each, and the method is `(event, key) -> row`.
    """
    refuse_bare("starts", event_types, "Event")
    return _marked(event_types, key, starts=True)


def on(*event_types: type[Event], key: KeyOf | None = None) -> Callable[[F], F]:
    """Mark a static method `(row, event) -> row` that folds an event; `None` deletes the row.

    It gets events of exactly these classes: a derived class is another event.

    `key` is as in `starts`: if it returns several keys, the event is folded onto each row.
    """
    refuse_bare("on", event_types, "Event")
    return _marked(event_types, key, starts=False)


def refuse_bare(decorator: str, given: Sequence[Any], wanted: str) -> None:
    """Refuse a decorator without arguments, which would mark nothing.

    Raises:
        TypeError: no argument was given, or only the function itself, as by a bare `@on`.
    """
    if not given or any(isinstance(each, FunctionType | staticmethod) for each in given):
        raise TypeError(f"@{decorator} names no event: write @{decorator}({wanted})")


def _marked(
    event_types: tuple[type[Event], ...], key: KeyOf | None, *, starts: bool
) -> Callable[[F], F]:
    def mark(function: F) -> F:
        plain = getattr(function, "__func__", function)
        wants_key = starts and len(inspect.signature(plain).parameters) > 1
        folds = [Fold(each, key, starts, plain, wants_key) for each in event_types]
        mark_in(sys._getframe(1).f_locals, function, _FOLDS, folds)
        return function

    return mark


def mark_in(
    body: Mapping[str, Any], function: Callable[..., Any], attribute: str, what: Sequence[Any]
) -> None:
    """Add a mark to a function; `body` is the namespace of the class that defines it.

    In a class's body, a second function of the same name silently replaces the first one and its
    mark, so that an event would no longer be folded. `said_twice` finds that.
    """
    plain = getattr(function, "__func__", function)
    setattr(plain, attribute, (*getattr(plain, attribute, ()), *what))
    if "__qualname__" in body and plain.__name__ in body:
        first = body[plain.__name__]
        if getattr(first, "__func__", first) is not plain:
            setattr(plain, _INSTEAD, True)


def members_of(cls: type) -> dict[str, Any]:
    """Return the members of a class and its bases by name; a static method as its function."""
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        members |= vars(base)
    return {name: getattr(each, "__func__", each) for name, each in members.items()}


def said_twice(cls: type) -> list[str]:
    """Return a sentence for each marked member that replaced another one in its class's body."""
    return [
        f"{cls.__qualname__}.{name} is defined twice, and the second replaces the first: "
        "give each its own name"
        for name, member in members_of(cls).items()
        if getattr(member, _INSTEAD, False)
    ]


def yielding(where: str, function: Callable[..., Any], gives: str) -> list[str]:
    """Return a sentence if a function that must use `return` is a generator."""
    return [f"{where} yields: let it return {gives}"] * inspect.isgeneratorfunction(function)


def folds_of(cls: type) -> list[tuple[str, Fold]]:
    """Return the names and folds of the marked members of a class and its bases."""
    return [
        (name, fold)
        for name, member in members_of(cls).items()
        for fold in getattr(member, _FOLDS, ())
    ]


def mistakes_of_folds(
    cls: type,
    nothing: str | None = "write `return None` where it deletes the row",
    takes: Sequence[str] | None = ("row", "event"),
) -> list[str]:
    """Return the mistakes in the members that `on` and `starts` have marked.

    `nothing` is the advice for a function that returns nothing; None: that is no mistake. `takes`
    are the parameters of a function that starts no row; None: the caller checks them.
    """
    found = said_twice(cls)
    first: dict[type[Event], str] = {}
    for member, fold in folds_of(cls):
        where, event = f"{cls.__qualname__}.{member}", fold.event_type
        if not (isinstance(event, type) and issubclass(event, Event)):
            found.append(f"{where} is marked for {event!r}, which is not an event")
            continue
        other = first.setdefault(event, member)
        if other != member:
            found.append(f"{where} and {other} are both for {event.__qualname__}: remove one")
        given = takes or ("self", "event", "attempt")
        if takes is not None:
            if fold.starts:
                given = ("event", "key") if fold.wants_key else ("event",)
            found += miscalled(where, fold.apply, *given)
            found += drawing(where, fold.apply)
        found += mistaken_key(where, fold)
        found += taking_another(where, fold.apply, event, given.index("event"))
        if nothing is not None and returns_nothing(fold.apply):
            found.append(f"{where} returns nothing: {nothing}")
    return found


def mistaken_key(where: str, fold: Fold) -> list[str]:
    """Return the mistakes in the function that returns a fold's key, if there is one."""
    if fold.key_of is None or callable(fold.key_of):
        return drawing(f"the key of {where}", fold.key_of)
    told = f"key={fold.key_of!r} of {where} is not a function of the event"
    return [f"{told}: write key=lambda event: …, or leave it out if a field has the key's name"]


def taking_another(
    where: str, function: Callable[..., Any], message: type[Message], at: int
) -> list[str]:
    """Return a sentence if the annotation of a function's parameter `at` excludes `message`.

    No type checker compares the two. There is no sentence if the annotation cannot be read or is
    not the function's own: a wrapper may pass something else to the function that it wraps.
    """
    kind = Event if issubclass(message, Event) else Command
    if hasattr(function, "__wrapped__"):
        return []
    try:
        given = list(inspect.signature(function).parameters.values())[at]
        hint = get_type_hints(function).get(given.name)
    except Exception:  # a name that exists only under TYPE_CHECKING or within a function, say
        return []
    if given.kind not in (given.POSITIONAL_ONLY, given.POSITIONAL_OR_KEYWORD):
        return []
    taken = [each for each in _classes_in(hint) if issubclass(each, kind)]
    if not taken or any(issubclass(message, each) for each in taken):
        return []
    told = " or a ".join(dict.fromkeys(each.__qualname__ for each in taken))
    return [f"{where} is for {message.__qualname__}, and takes a {told}"]


def _classes_in(hint: Any) -> Iterator[type]:
    arguments = () if get_origin(hint) is type else get_args(hint)
    if not arguments and isinstance(hint, type):
        yield hint
    for each in arguments:
        yield from _classes_in(each)


def returns_nothing(function: Callable[..., Any]) -> bool:
    """Whether the function's statements neither return, yield nor raise anything."""
    if getattr(function, "__name__", "") == "<lambda>":
        return False
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):  # its source is not available
        return False
    ends = (ast.Return, ast.Raise, ast.Yield, ast.YieldFrom)
    return not any(isinstance(node, ends) for node in ast.walk(tree))
