"""Protects what an author's function is given from being changed in place.

Messages are frozen, but the values in them may be mutable: `state.items.append(…)` changes a state
that other code holds too. Then a refused command would have changed the state, an event would
count twice, and a new aggregate would begin with what happened to others.
"""

from __future__ import annotations

from collections.abc import MutableMapping, MutableSequence, MutableSet
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin, is_typeddict

from pydantic import BaseModel

_known: dict[type, bool] = {}


class ChangedInPlace(TypeError):
    """A function of the author's has changed one of its arguments in place."""


def fresh(state: Any) -> Any:
    """Return a copy of a state that can be changed in place; a frozen one is returned itself."""
    return state.model_copy(deep=True) if _is_changeable(type(state)) else state


class Unchanged:
    """Context manager: checks that states are unchanged on exit, and restores them if they are not.

    It costs nothing if all of a state is frozen, else as much as writing the state twice.
    """

    __slots__ = ("_before", "_who")

    def __init__(self, who: type, *states: Any) -> None:
        """`who` is the class whose functions are called; errors name it."""
        self._who = who
        self._before = [(each, _written(each)) for each in states if _is_changeable(type(each))]

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        """Raise `ChangedInPlace` if a state was changed, even if the body raised."""
        if not self._before:
            return
        changed = [(state, before) for state, before in self._before if _written(state) != before]
        for state, before in changed:
            kept = type(state).__pydantic_validator__.validate_json(before, extra="ignore")
            state.__dict__.update(kept.__dict__)
        if changed:
            raise ChangedInPlace(
                f"{self._who.__qualname__} changes the {type(changed[0][0]).__qualname__} that it"
                " is given, in place: copy it, as by state.replace(items=[*state.items, item])"
            )


def _written(state: Any) -> bytes:
    data: bytes = state.__pydantic_serializer__.to_json(state, warnings=False, fallback=repr)
    return data


def _is_changeable(model: type) -> bool:
    found = _known.get(model)
    if found is None:
        found = _known[model] = _can_change(model, set())
    return found


def _can_change(annotation: Any, seen: set[Any]) -> bool:
    """Return whether values with this annotation can be changed in place.

    Classes of the author's own are not examined.
    """
    kind = get_origin(annotation) or getattr(annotation, "__supertype__", annotation)
    if kind is Annotated:
        return _can_change(get_args(annotation)[0], seen)
    if kind is Any or is_typeddict(kind) or is_dataclass(kind):
        return True
    if isinstance(kind, type):
        if issubclass(kind, BaseModel):
            if kind in seen:
                return False
            seen.add(kind)
            return any(_can_change(info.annotation, seen) for info in kind.model_fields.values())
        # A field annotated as a `Sequence` is a list once it was read from JSON.
        made = issubclass(kind, MutableSequence | MutableMapping | MutableSet)
        if made or kind.__module__ == "collections.abc":
            return True
    return any(_can_change(each, seen) for each in get_args(annotation))
