"""Folds and handlers that ask the clock, or draw lots."""

from __future__ import annotations

import datetime as calendar
import random
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

from rayfold import (
    Aggregate,
    Command,
    Event,
    Message,
    ProcessManager,
    SqlProjection,
    Statement,
    Step,
    UtcDatetime,
    View,
    on,
    sql,
    starts,
    upcaster,
)


class Draw(Command, name="draw"):
    lot: str


class Drawn(Event, name="Drawn"):
    lot: str


class LotState(Message):
    at: int = 0


class Lot(Aggregate[LotState, Draw, Drawn], category="lot", id_field="lot", initial=LotState()):
    @staticmethod
    def decide(state: Any, command: Any) -> Any:
        return [Drawn(lot=f"{uuid4()}")]

    @staticmethod
    def evolve(state: LotState, event: Drawn) -> LotState:
        return state.replace(at=time.time_ns())


class Lots(View, name="lots", key="lot"):
    lot: str
    at: UtcDatetime | None = None
    number: int = 0
    since: str = ""

    @staticmethod
    @on(Drawn)
    def drawn(row: Lots, event: Drawn) -> Lots:
        number = random.randint(1, 6)
        return row.replace(at=datetime.now(UTC), number=number, since=str(calendar.date.today()))


class LotsByChance(View, name="lots-by-chance", key="lot"):
    lot: str

    @staticmethod
    @on(Drawn, key=lambda event: str(uuid4()))
    def drawn(row: LotsByChance, event: Drawn) -> LotsByChance:
        return row


class Draws(SqlProjection, name="draws"):
    schema = "CREATE TABLE draw (at timestamptz)"

    @staticmethod
    @on(Drawn)
    def drawn(event: Drawn) -> Iterator[Statement]:
        yield sql("INSERT INTO draw VALUES ($1)", datetime.utcnow())


class Wheel(ProcessManager[LotState, Drawn], name="wheel", key="lot", initial=LotState()):
    @staticmethod
    def evolve(state: LotState, happened: Any) -> LotState:
        return state.replace(at=date.today().year)

    @staticmethod
    @starts(Drawn)
    def drawn(state: LotState, event: Drawn) -> Iterator[Step]:
        if random.random() > 0.5:
            yield from ()


@upcaster("Drew", from_version=1)
def drew(data: dict[str, Any]) -> tuple[str, dict[str, Any], int]:
    return "Drawn", {"lot": str(uuid4())}, 1
