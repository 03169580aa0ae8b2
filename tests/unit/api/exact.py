"""A domain of one command, with values that JSON has no types for."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from rayfold import Aggregate, Command, Event, Message, Route, UtcDatetime


class Period(Message):
    first: date
    last: UtcDatetime | None = None


class Agree(Command, name="agree", creates=True):
    contract: str
    amount: Decimal = Decimal(0)
    rates: dict[str, tuple[Decimal, ...]] | None = None
    count: int = 0
    period: Period | None = None
    breaks: tuple[Period, ...] = ()
    holidays: frozenset[date] = frozenset()
    by_name: dict[str, date] | None = None


class Agreed(Event, name="Agreed"):
    contract: str


class Nothing(Message):
    """No state."""


class Contract(
    Aggregate[Nothing, Agree, Agreed],
    category="contract",
    id_field="contract",
    initial=Nothing(),
):
    @staticmethod
    def decide(state: Any, command: Agree) -> list[Agreed]:
        return [Agreed(contract=command.contract)]

    @staticmethod
    def evolve(state: Any, event: Agreed) -> Any:
        return state


ROUTES = [Route("POST", "/contracts", Agree)]
