"""Domains with one event, and what `rayfold check` says of them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from pydantic import create_model

from deploy.authoring.catalogue.checking import Report
from rayfold import (
    Aggregate,
    Command,
    Event,
    Message,
    Registry,
    upcaster,
)

Upcast = Callable[[dict[str, Any]], Any]


class Nothing(Message):
    """No state."""


def domain(
    *events: type[Event], upcasters: dict[tuple[str, int], Upcast] | None = None
) -> Registry:
    """Return a domain of one aggregate with these events."""
    module = ModuleType("made_up")
    namespace = {"__module__": "made_up"}
    command: Any = type("Do", (Command,), {**namespace, "__annotations__": {"id": str}}, name="do")

    class Kept(Event, name="Kept"):
        id: str

    union: Any = Kept
    for each in events:
        union = union | each
    base: Any = Aggregate[Nothing, command, union]

    class Thing(base, category="thing", id_field="id", initial=Nothing()):  # type: ignore[misc]
        __module__ = "made_up"

        @staticmethod
        def decide(state: Any, command: Any) -> list[Event]:
            return []

        @staticmethod
        def evolve(state: Any, event: Any) -> Any:
            return state

    vars(module)["Thing"] = Thing
    for number, ((name, version), function) in enumerate((upcasters or {}).items()):
        vars(module)[f"upcaster_{number}"] = upcaster(name, from_version=version)(function)
    return Registry([module])


def happened(version: int = 1, name: str = "Happened", **fields: Any) -> type[Event]:
    """Return an event class with an id and these fields."""
    return create_model(
        name,
        __base__=Event,
        __cls_kwargs__={"name": name, "version": version},
        id=(str, ...),
        **{each: kind if isinstance(kind, tuple) else (kind, ...) for each, kind in fields.items()},
    )


def told(report: Report) -> list[str]:
    return [line for each in report.broken for line in each.lines()]
