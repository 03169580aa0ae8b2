"""A domain whose process rings a bell every hour, and whose code fails for some bells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rayfold import (
    Aggregate,
    Command,
    Event,
    Message,
    ProcessManager,
    Query,
    Schedule,
    Send,
    Step,
    TimedOut,
    View,
    on_timeout,
    starts,
)


class Ring(Command, name="ring"):
    bell: str


class Rang(Event, name="Rang"):
    bell: str
    times: int


class Rings(Message):
    times: int = 0


class Bell(Aggregate[Rings, Ring, Rang], category="bell", id_field="bell", initial=Rings()):
    """Counts."""

    @staticmethod
    def decide(state: Rings, command: Ring) -> list[Rang]:
        """Refuse nothing; fail for one bell."""
        if command.bell == "broken":
            raise RuntimeError("no clapper")
        return [Rang(bell=command.bell, times=state.times + 1)]

    @staticmethod
    def evolve(state: Rings, event: Rang) -> Rings:
        """Count."""
        return Rings(times=event.times)


class Ringing(ProcessManager[Rings, Rang], name="ringing", key="bell", initial=Rings()):
    """Rings `dinner` every hour, once `tower` rang."""

    @staticmethod
    def evolve(state: Rings, happened: Any) -> Rings:
        """Remember nothing."""
        return state

    @staticmethod
    @starts(Rang)
    def rang(state: Rings, event: Rang) -> list[Step]:
        """Begin, or fail."""
        if event.bell == "cracked":
            raise RuntimeError("it is cracked")
        if event.bell == "alarm":
            return [Send(Ring(bell="broken"))]
        return [Schedule("hour", timedelta(hours=1))] if event.bell == "tower" else []

    @staticmethod
    @on_timeout("hour")
    def hour(state: Rings, timeout: TimedOut) -> list[Step]:
        """Ring, and again in an hour."""
        return [Send(Ring(bell="dinner")), Schedule("hour", timedelta(hours=1))]


class Bells(View, name="bells", key="bell"):
    """How often each rang."""

    bell: str
    times: int

    @staticmethod
    @starts(Rang)
    def rang(event: Rang) -> Bells:
        """Show it, unless it is worn."""
        if event.bell == "worn":
            raise RuntimeError("it is worn")
        return Bells(**event.model_dump())


class GetBell(Query, name="get-bell", view=Bells):
    bell: str
