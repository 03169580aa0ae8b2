"""Old events: read as another event, as several, or as none; never unreadable for ever."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import pytest

from actors.host.entity import Entity
from eventstore.records import RawRecord
from projections.folding import Folding
from projections.memory.table import Table
from rayfold import (
    Aggregate,
    Command,
    Event,
    Message,
    Registry,
    UnknownEventType,
    UnreadableEvent,
    View,
    on,
    upcaster,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Paint(Command, name="paint"):
    wall: str
    colour: Colour


class Painted(Event, name="Painted", version=3):
    wall: str
    colour: Colour
    coats: int = 1


class Primed(Event, name="Primed", version=2):
    wall: str


class WallState(Message):
    coats: int = 0
    events: int = 0


class Wall(
    Aggregate[WallState, Paint, Painted | Primed],
    category="wall",
    id_field="wall",
    initial=WallState(),
):
    @staticmethod
    def decide(state: WallState, command: Paint) -> Iterable[Painted | Primed]:
        return [Painted(wall=command.wall, colour=command.colour)]

    @staticmethod
    def evolve(state: WallState, event: Painted | Primed) -> WallState:
        coats = event.coats if isinstance(event, Painted) else 0
        return state.replace(coats=state.coats + coats, events=state.events + 1)


class Walls(View, name="walls", key="wall"):
    wall: str
    coats: int = 0
    primed: int = 0

    @staticmethod
    @on(Painted)
    def painted(row: Walls, event: Painted) -> Walls:
        return row.replace(coats=row.coats + event.coats)

    @staticmethod
    @on(Primed)
    def was_primed(row: Walls, event: Primed) -> Walls:
        return row.replace(primed=row.primed + 1)


@upcaster("Painted", from_version=1)
def with_a_primer(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A coat of long ago was a primer and a coat; two coats were two events."""
    painted = ("Painted", {"wall": data["wall"], "colour": data["colour"]})
    return [("Primed", {"wall": data["wall"]}), *[painted] * data.get("coats", 1)]


@upcaster("Painted", from_version=2)
def without_green(data: dict[str, Any]) -> dict[str, Any]:
    """There is no green any more."""
    return data | {"colour": "blue" if data["colour"] == "green" else data["colour"]}


@upcaster("Whitewashed", from_version=4)
def was_green(data: dict[str, Any]) -> tuple[str, dict[str, Any], int]:
    """Written when an event that was painted was at version 2."""
    return "Painted", {"wall": data["wall"], "colour": "green"}, 2


@upcaster("Smelled", from_version=1)
def nobody_wants_it(data: dict[str, Any]) -> None:
    return None


@upcaster("Broken", from_version=1)
def breaks(data: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("an author's mistake")


@upcaster("Exited", from_version=1)
def exits(data: dict[str, Any]) -> dict[str, Any]:
    raise SystemExit("as a script does")


REGISTRY = Registry([sys.modules[__name__]])


def decoded(name: str, version: int, **data: Any) -> list[Event]:
    return REGISTRY.decode(name, json.dumps(data).encode(), version, "wall-a", 7)


def test_one_event_is_read_as_several_which_are_upcast_in_turn() -> None:
    painted = Painted(wall="a", colour=Colour.BLUE)
    assert decoded("Painted", 1, wall="a", colour="green", coats=2) == [
        Primed(wall="a"),
        painted,
        painted,
    ]


def test_an_event_that_became_another_is_read_from_the_version_that_it_has_then() -> None:
    assert decoded("Whitewashed", 4, wall="a") == [Painted(wall="a", colour=Colour.BLUE)]


def test_a_removed_enum_member_can_be_mapped() -> None:
    assert decoded("Painted", 2, wall="a", colour="green") == [
        Painted(wall="a", colour=Colour.BLUE)
    ]


def test_an_upcaster_may_drop_an_event() -> None:
    assert decoded("Smelled", 1, whatever=True) == []


def test_a_field_of_a_later_release_is_ignored() -> None:
    version = Painted.__rayfold__.version
    assert decoded("Painted", version, wall="a", colour="red", gloss=1) == [
        Painted(wall="a", colour=Colour.RED)
    ]


def test_an_event_of_a_later_version_is_unreadable() -> None:
    with pytest.raises(UnreadableEvent, match="a later release wrote it, as version 9: here is 3"):
        decoded("Painted", 9, wall="a", colour="red")


@pytest.mark.parametrize(
    ("name", "data"),
    [("Broken", {"a": 1}), ("Exited", {"a": 1}), ("Painted", {"wall": "a"}), ("Painted", [])],
)
def test_an_error_of_an_upcaster_is_reported_with_the_position(name: str, data: Any) -> None:
    with pytest.raises(UnreadableEvent, match=r"at revision 7 of stream 'wall-a'"):
        REGISTRY.decode(name, json.dumps(data).encode(), 1, "wall-a", 7)


def test_a_type_that_is_gone_without_an_upcaster_is_unknown() -> None:
    with pytest.raises(UnknownEventType):
        decoded("Gone", 1)


def record(at: int, name: str, version: int, **data: Any) -> RawRecord:
    metadata = json.dumps({"schemaVersion": str(version)}).encode()
    return RawRecord(name, json.dumps(data).encode(), metadata, "wall-a", at, 10 + at, 0)


HISTORY = [
    record(0, "Painted", 1, wall="a", colour="red", coats=2),
    record(1, "Smelled", 1),
    record(2, "Painted", 3, wall="a", colour="red", coats=5),
]


def test_a_stream_with_such_events_is_folded_and_goes_on_at_its_revision() -> None:
    entity = Entity(Wall, "wall-a")
    for raw in HISTORY:
        entity.fold(REGISTRY, raw)
    assert entity.state == WallState(coats=7, events=4)
    assert entity.revision == 2


def test_a_row_folds_each_event_that_one_event_became_once() -> None:
    view = REGISTRY.views["walls"]
    table, folding = Table(view), Folding(REGISTRY, [view])
    for raw in [*HISTORY, *HISTORY, HISTORY[-1]]:  # delivered again
        for step in folding.steps(raw):
            table.fold(step, folding)
    row = table.rows["a"]
    assert row.entry.row == Walls(wall="a", coats=7, primed=1)
    assert (row.revision, row.position) == (2, 12)
