"""Upcasters: how old versions of an event are read as the current one.

    @upcaster("LineAdded", from_version=1)
    def with_currency(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"currency": "EUR"}

An upcaster turns one schema version into the next; upcasters are chained. It may return

- `(name, data)`: the event has another name now,
- `None`: the event is not needed any more, and is ignored,
- a list of `(name, data)`: one event has become several, or none.

`(name, data, version)` also says which version of that event the data has, so that the upcasters
of later versions follow. Without it, the version is one more than the one that the upcaster reads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from rayfold.fingerprint import fingerprint_of

Data = dict[str, Any]
Became = tuple[str, Data] | tuple[str, Data, int]
Upcast = Callable[[Data], "Data | Became | list[Became] | None"]


@dataclass(frozen=True)
class Upcaster:
    """A step from `from_version` of the event type `name` to the next."""

    name: str
    from_version: int
    upcast: Upcast


def upcaster(name: str, *, from_version: int) -> Callable[[Upcast], Upcaster]:
    """Register the decorated function as an upcaster, if its module belongs to the domain."""

    def register(function: Upcast) -> Upcaster:
        return Upcaster(name, from_version, function)

    return register


def upcast(
    steps: Mapping[tuple[str, int], Upcaster], name: str, data: Data, version: int
) -> list[tuple[str, Data, int]]:
    """Return what a record is after all steps: name, data and version of each event."""
    step = steps.get((name, version))
    if step is None:
        return [(name, data, version)]
    result = step.upcast(data)
    if result is None:
        return []
    if isinstance(result, dict):
        result = [(name, result)]
    elif isinstance(result, tuple):
        result = [result]
    return [
        one
        for became, fields, *said in result
        for one in upcast(steps, became, fields, *(said or [version + 1]))
    ]


def fingerprint_of_upcasters(
    upcasters: Iterable[Upcaster], events: Collection[str], today: Collection[str]
) -> str:
    """Return a text that changes when upcasters may read old records as others of these `events`.

    It is made of the upcasters of these events; of those of events that are declared no more, so
    not in `today`; and of any other whose code names one of these events. Empty without any.
    """
    found = [
        f"{each.name} {each.from_version} {fingerprint_of(each.upcast)}"
        for each in upcasters
        if each.name in events
        or each.name not in today
        or not {*_texts(getattr(each.upcast, "__code__", None))}.isdisjoint(events)
    ]
    return f" {found}" if found else ""


def _texts(code: CodeType | None) -> Iterator[str]:
    for each in code.co_consts if code else ():
        if isinstance(each, str):
            yield each
        elif isinstance(each, CodeType):
            yield from _texts(each)
