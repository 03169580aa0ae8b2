"""Functions that nobody can call as they are called, or that give nothing."""

from __future__ import annotations

from typing import Any

from rayfold import Aggregate, Command, Event, Message, SqlProjection, View, on, upcaster


class Ring(Command, name="ring"):
    bell: str


class Rang(Event, name="Rang"):
    bell: str


class BellState(Message):
    rung: int = 0


class Bell(Aggregate[BellState, Ring, Rang], category="bell", id_field="bell", initial=BellState()):
    @staticmethod
    async def decide(state: Any, command: Any) -> Any:
        return [Rang(bell=command.bell)]

    @staticmethod
    def evolve(state: Any, event: Any) -> Any:
        state.replace(rung=state.rung + 1)


class Gong(Aggregate[BellState, Ring, Rang], category="gong", id_field="bell", initial=BellState()):
    def decide(self, state: Any, command: Any) -> Any:  # type: ignore[override]
        [Rang(bell=command.bell)]

    @staticmethod
    def evolve(state: Any, event: Any) -> Any:
        return state


class Bells(View, name="bells", key="bell"):
    bell: str

    @staticmethod
    @on(Rang)
    def rang(event: Any) -> Any:
        return Bells(bell=event.bell)


class Rings(SqlProjection, name="rings"):
    schema = "CREATE TABLE ring (bell text)"

    @staticmethod
    @on(Rang)
    def rang(row: Any, event: Any) -> Any:
        return ()


@upcaster("Clang", from_version=1)
def clang(data: dict[str, Any]) -> Any:
    data["bell"] = "a"
