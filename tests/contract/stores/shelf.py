"""A domain of things that can be put, painted and taken away; its fields have names of stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import ClassVar
from uuid import uuid4

from eventstore.memory import MemoryLog
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from rayfold import Aggregate, Command, Event, Message, Registry, View, on, starts


class Nothing(Message):
    """A thing knows nothing of itself."""


class Note(Command, name="note"):
    """Never sent: these tests write the events themselves."""

    id: str


class Put(Event, name="Put"):
    """A thing is there, or there again."""

    id: str
    name: str
    colour: str | None = None
    size: int = 1


class Painted(Event, name="Painted"):
    """It has another colour."""

    id: str
    colour: str | None


class Taken(Event, name="Taken"):
    """It is gone."""

    id: str


class Noted(Event, name="Noted"):
    """No view minds it."""

    id: str


class Thing(
    Aggregate[Nothing, Note, Put | Painted | Taken | Noted],
    category="thing",
    id_field="id",
    initial=Nothing(),
):
    """Decides nothing."""

    @staticmethod
    def decide(state: Nothing, command: Note) -> Iterable[Event]:
        return []

    @staticmethod
    def evolve(state: Nothing, event: Put | Painted | Taken | Noted) -> Nothing:
        return state


SOME = [
    *(Put(id=f"{at}", name=f"n{at % 2}", colour="red") for at in range(6)),
    *(Painted(id=f"{at}", colour="blue") for at in range(0, 6, 2)),
    Taken(id="1"),
]
"""Events of six things, of which one is taken again."""


class Shelf(View, name="shelf", key="id", stores=("memory",), indexes=("name", "colour", "size")):
    """What is there. Colours that are `broken` break it."""

    broken: ClassVar[set[str]] = set()
    painting: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    """Called whenever one is painted."""
    id: str
    name: str
    colour: str | None
    size: int
    painted: int = 0

    @staticmethod
    @starts(Put)
    def put(event: Put) -> Shelf:
        return Shelf(id=event.id, name=event.name, colour=event.colour, size=event.size)

    @staticmethod
    @on(Painted)
    def paint(row: Shelf, event: Painted) -> Shelf:
        Shelf.painting()
        if event.colour in Shelf.broken:
            raise ValueError(f"no paint of {event.colour}")
        return row.replace(colour=event.colour, painted=row.painted + 1)

    @staticmethod
    @on(Taken)
    def take(row: Shelf, event: Taken) -> None:
        return None


class Colours(View, name="colours", key="colour", stores=("memory",)):
    """How often each colour was painted: many streams come together in a row."""

    colour: str
    times: int = 0

    @staticmethod
    @on(Painted)
    def paint(row: Colours, event: Painted) -> Colours:
        return row.replace(times=row.times + 1)


def registry_for(store: str) -> Registry:
    """Return the domain with its views kept in that store."""
    from tests.contract.stores import shelf

    registry = Registry([shelf])
    for name, view in registry.views.items():
        registry.views[name] = replace(view, stores=(store,))
    return registry


async def write(log: MemoryLog, *events: Event, stream: str = "") -> int:
    """Append each to its thing's stream, or to the one that is given; return the log's end."""
    for event in events:
        data = event.model_dump_json().encode()
        record = NewRecord(type(event).__rayfold__.name, data, {}, str(uuid4()))
        await log.append([StreamAppend(stream or f"thing-{event.id}", ANY, [record])])
    return await log.end_position(None)
