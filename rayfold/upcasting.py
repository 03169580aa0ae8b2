"""Upcasters: how old versions of an event are read as the current one.

    @upcaster("LineAdded", from_version=1)
    def with_currency(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"currency": "EUR"}

An upcaster goes from one schema version to the next; upcasters are chained. It may also return

- `(name, data)`: the event now has another name,
- `None`: the event is dropped; no fold sees it,
- a list of `(name, data)`: the event became several events, or none.

`(name, data, version)` states the version of the returned data, so that later upcasters of that
event continue from there. Without it, the version is one more than the one that the upcaster reads.
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
    """Make an upcaster of the decorated function; it counts if its module is in the domain."""

    def register(function: Upcast) -> Upcaster:
        return Upcaster(name, from_version, function)

    return register


def upcast(
    steps: Mapping[tuple[str, int], Upcaster], name: str, data: Data, version: int
) -> list[tuple[str, Data, int]]:
    """Return name, data and version of each event that a record is after all upcasters."""
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
    """Return a text that changes when upcasters may make other `events` of the old records.

    It covers the upcasters of these events, those of events that are no longer declared (are not
    in `today`), and any other whose code names one of these events. Empty if there are none.
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
