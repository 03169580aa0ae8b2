"""Upcasters: old shapes of an event's data, read as the present one.

    @upcaster("LineAdded", from_version=1)
    def with_currency(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"currency": "EUR"}

An upcaster goes from one schema version to the next; they are chained. It may give back

- `(name, data)`: the event now has another name,
- `None`: nobody wants the event any more; it counts for nothing,
- a list of `(name, data)`: one event became several, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Data = dict[str, Any]
Upcast = Callable[[Data], "Data | tuple[str, Data] | list[tuple[str, Data]] | None"]


@dataclass(frozen=True)
class Upcaster:
    """A step from `from_version` of the event type `name` to the next."""

    name: str
    from_version: int
    upcast: Upcast


def upcaster(name: str, *, from_version: int) -> Callable[[Upcast], Upcaster]:
    """Register the decorated function, when its module belongs to the domain."""

    def register(function: Upcast) -> Upcaster:
        return Upcaster(name, from_version, function)

    return register
