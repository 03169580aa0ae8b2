"""What Python takes and an author did not mean: a name given twice, and a fold that yields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rayfold import (
    Aggregate,
    Command,
    Event,
    Message,
    ProcessManager,
    Step,
    View,
    on,
    on_abort,
    on_timeout,
    starts,
    upcaster,
)


class Light(Command, name="light"):
    lamp: str


class Lit(Event, name="Lit"):
    lamp: str


class Dimmed(Event, name="Dimmed"):
    lamp: str


class LampState(Message):
    lit: int = 0


class Lamp(
    Aggregate[LampState, Light, Lit | Dimmed], category="lamp", id_field="lamp", initial=LampState()
):
    @staticmethod
    def decide(state: Any, command: Any) -> Any:
        yield Lit(lamp=command.lamp)

    @staticmethod
    def evolve(state: Any, event: Any) -> Any:
        yield state


class Lamps(View, name="lamps", key="lamp"):
    lamp: str
    lit: int = 0

    @staticmethod
    @on(Lit)
    def changed(row: Lamps, event: Lit) -> Lamps:
        return row.replace(lit=1)

    @staticmethod
    @on(Dimmed)
    def changed(row: Lamps, event: Dimmed) -> Any:  # type: ignore[no-redef]  # noqa: F811
        yield row.replace(lit=0)


class Watching(ProcessManager[LampState, Lit], name="watching", key="lamp", initial=LampState()):
    @staticmethod
    def evolve(state: Any, happened: Any) -> Any:
        state.replace(lit=1)

    @staticmethod
    @starts(Lit)
    def lit(state: LampState, event: Lit) -> Iterator[Step]:
        yield from ()

    @staticmethod
    @on_timeout("burnt")
    def ends(state: LampState, timeout: Any) -> Iterator[Step]:
        yield from ()

    @staticmethod
    @on_abort
    def ends(state: LampState, aborted: Any) -> Iterator[Step]:  # type: ignore[no-redef]  # noqa: F811
        yield from ()


@upcaster("Glowed", from_version=1)
def glowed(data: dict[str, Any]) -> Any:
    yield "Lit", data, 1
