"""A small domain of counters, one of whose folds can be broken and mended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Self
from uuid import uuid4

from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from rayfold import Aggregate, Command, Event, Message, View, on


class Nothing(Message):
    """A counter knows nothing of itself."""


class Add(Command, name="add"):
    """One more number."""

    counter: str
    number: int


class Added(Event, name="Added"):
    """A number was added."""

    counter: str
    number: int


class Counter(
    Aggregate[Nothing, Add, Added], category="counter", id_field="counter", initial=Nothing()
):
    """Says yes to everything."""

    @staticmethod
    def decide(state: Nothing, command: Add) -> Iterable[Event]:
        return [Added(counter=command.counter, number=command.number)]

    @staticmethod
    def evolve(state: Nothing, event: Added) -> Nothing:
        return state


class Totals(View, name="totals", key="counter"):
    """A total for each counter; breaks on `broken` numbers."""

    broken: ClassVar[set[int]] = set()
    counter: str
    total: int = 0

    @staticmethod
    @on(Added)
    def added(row: Totals, event: Added) -> Totals:
        if event.number in Totals.broken:
            raise ValueError(f"cannot add {event.number}")
        return row.replace(total=row.total + event.number)


class Balances(View, name="balances", key="counter", indexes=("total",)):
    """A total for each counter that is not at zero."""

    counter: str
    total: int = 0

    @staticmethod
    @on(Added)
    def added(row: Balances, event: Added) -> Self | None:
        total = row.total + event.number
        return row.replace(total=total) if total else None


class Strict(View, name="strict", key="counter", on_poison="stop"):
    """The same, but a number that breaks it stops all counters."""

    counter: str
    total: int = 0

    @staticmethod
    @on(Added)
    def added(row: Strict, event: Added) -> Strict:
        if event.number in Totals.broken:
            raise ValueError(f"cannot add {event.number}")
        return row.replace(total=row.total + event.number)


async def add(log: MemoryLog, counter: str, *numbers: int, event_type: str = "Added") -> None:
    """Appends to the counter's stream."""
    at = [raw async for raw in log.read_stream(f"counter-{counter}", backwards=True, limit=1)]
    records = [
        NewRecord(
            event_type,
            Added(counter=counter, number=number).model_dump_json().encode(),
            {},
            str(uuid4()),
        )
        for number in numbers
    ]
    expected = at[0].revision if at else None
    await log.append([StreamAppend(f"counter-{counter}", expected, records)])


TOTALS = Totals.__rayfold__
BALANCES = Balances.__rayfold__
STRICT = Strict.__rayfold__
