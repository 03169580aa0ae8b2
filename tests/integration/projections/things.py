"""A small domain of things that are found by a field of every type that may be indexed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from random import Random
from typing import Literal
from uuid import UUID, uuid4

from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from rayfold import Aggregate, Command, Event, Message, UtcDatetime, View, starts


class Colour(str, Enum):  # noqa: UP042 - what `str` makes of it is not its value
    """Text with names."""

    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    """Numbers with names."""

    LOW = 1
    HIGH = 2


class Shape(StrEnum):
    """Text with names, as it is written today."""

    ROUND = "round"
    FLAT = "flat"


class Nothing(Message):
    """A thing knows nothing of itself."""


class Note(Command, name="note"):
    """Never sent: these tests write the events themselves."""

    thing: str


class Noted(Event, name="Noted"):
    """A thing with all that can be said of it."""

    thing: str
    flag: bool
    at: UtcDatetime | None
    day: date
    colour: Colour
    level: Level
    shape: Shape
    size: Literal["s", "m"]
    ratio: float
    price: Decimal
    many: int
    other: UUID
    lasting: timedelta
    tags: list[str]


class Thing(Aggregate[Nothing, Note, Noted], category="thing", id_field="thing", initial=Nothing()):
    """Decides nothing."""

    @staticmethod
    def decide(state: Nothing, command: Note) -> Iterable[Event]:
        return []

    @staticmethod
    def evolve(state: Nothing, event: Noted) -> Nothing:
        return state


INDEXED = tuple(field for field in Noted.model_fields if field not in ("thing", "tags"))


class Things(View, name="things", key="thing", stores=("memory", "postgres"), indexes=INDEXED):
    """The things, each once for itself and once for each of its tags."""

    thing: str
    flag: bool
    at: UtcDatetime | None
    day: date
    colour: Colour
    level: Level
    shape: Shape
    size: Literal["s", "m"]
    ratio: float
    price: Decimal
    many: int
    other: UUID
    lasting: timedelta

    @staticmethod
    @starts(Noted, key=lambda event: [event.thing, *event.tags])
    def noted(event: Noted, key: str) -> Things:
        fields = {field: getattr(event, field) for field in INDEXED}
        return Things(thing=key, **fields)


THINGS = Things.__rayfold__

_EAST = timezone(timedelta(hours=5, minutes=30))
_SOME = UUID("00000000-0000-4000-8000-000000000001")


def events(number: int) -> Iterator[Noted]:
    """Things that share values; equal ones are written in different ways."""
    random = Random(7)
    pick = random.choice
    for at in range(number):
        yield Noted(
            thing=f"{pick('aZé~中')}{at}",
            flag=pick([True, False]),
            at=pick(
                [
                    None,
                    datetime(2020, 1, 1, 0, 0, tzinfo=UTC),
                    datetime(2020, 1, 1, 5, 30, tzinfo=_EAST),
                    datetime.min.replace(tzinfo=UTC),
                    datetime.max.replace(tzinfo=UTC),
                    datetime(1969, 7, 20, 20, 17, 40, 123456, tzinfo=UTC),
                ]
            ),
            day=pick([date.min, date(2024, 2, 29), date.max]),
            colour=pick(list(Colour)),
            level=pick(list(Level)),
            shape=pick(list(Shape)),
            size=pick(["s", "m"]),
            ratio=pick([0.0, -0.0, 0.1, 1e300, 5e-324, -2.5]),
            price=pick(
                [
                    Decimal("1.0"),
                    Decimal("1.00"),
                    Decimal("1E+3"),
                    Decimal("10000"),
                    Decimal("-0.00"),
                ]
            ),
            many=pick([0, -1, 2**63 - 1, 2**70, -(2**70)]),
            other=pick([_SOME, uuid4()]),
            lasting=pick([timedelta(0), timedelta(days=-1, microseconds=1), timedelta(days=400)]),
            tags=[f"{tag}{at}" for tag in pick([(), ("ä", "B", "a", "_", "😀")])],
        )


async def note(log: MemoryLog, number: int) -> None:
    """Append so many of them, each to a stream of its own."""
    for event in events(number):
        record = NewRecord("Noted", event.model_dump_json().encode(), {}, str(uuid4()))
        await log.append([StreamAppend(f"thing-{event.thing}", None, [record])])
