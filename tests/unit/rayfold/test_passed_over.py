"""What a command of another release says beyond what this one reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ConfigDict, Field, computed_field

from rayfold import Command, Message, Personal
from rayfold.passed_over import Path


class Floor(Message):
    number: int
    lift: bool = False


class Loose(Message):
    model_config = ConfigDict(extra="ignore")

    number: int


class After(Command, name="after"):
    """The next release."""

    thing_id: str = Field(validation_alias="id")
    floors: tuple[Floor, ...] = ()
    by_name: dict[str, Floor] = Field(default_factory=dict)
    loose: Floor | None = None
    whose: Personal[str] = ""
    note: str = ""
    must: int

    @computed_field
    @property
    def many(self) -> int:
        return len(self.floors)


class Before(Command, name="before"):
    """The release before."""

    thing_id: str = Field(validation_alias="id")
    floors: tuple[Loose, ...] = ()
    by_name: dict[str, Loose] = Field(default_factory=dict)
    loose: Loose | None = None
    must: int

    @computed_field
    @property
    def many(self) -> int:
        return len(self.floors)


def read(command: Command) -> tuple[Command, list[Path]]:
    data = type(command).__rayfold__.encode(command)
    found, unread = Before.__rayfold__.decode_all(data)
    return found, [*unread]


def without(command: Command) -> Any:
    """Return what goes to the release before instead."""
    definition = type(command).__rayfold__
    data = definition.encode(command)
    less = definition.without(data, read(command)[1])
    return None if less is None else json.loads(less)


def test_what_says_no_more_is_read_as_a_whole() -> None:
    plain = Before(id="a", must=1, floors=(Loose(number=1),), by_name={"x": Loose(number=2)})
    assert read(plain) == (plain, [])


def test_each_field_that_is_passed_over_is_told_at_any_depth() -> None:
    floor = Floor(number=1, lift=True)
    said = After(id="a", must=1, floors=(Floor(number=0), floor), by_name={"x": floor}, loose=floor)
    found, unread = read(said)
    assert found == Before(
        id="a",
        must=1,
        floors=(Loose(number=0), Loose(number=1)),
        by_name={"x": Loose(number=1)},
        loose=Loose(number=1),
    )
    assert sorted(unread, key=str) == [
        ("by_name", "x", "lift"),
        ("floors", 0, "lift"),
        ("floors", 1, "lift"),
        ("loose", "lift"),
        ("note",),
        ("whose",),
    ]


def test_what_says_nothing_is_left_out() -> None:
    floor = Floor(number=1)
    said = After(id="a", must=1, floors=(floor,), by_name={"x": floor}, loose=floor)
    assert without(said) == {
        "thing_id": "a",
        "must": 1,
        "floors": [{"number": 1}],
        "by_name": {"x": {"number": 1}},
        "loose": {"number": 1},
    }


@pytest.mark.parametrize(
    "more",
    [
        {"note": "rent"},
        {"whose": "Ada"},
        {"floors": (Floor(number=0), Floor(number=1, lift=True))},
        {"by_name": {"x": Floor(number=1, lift=True)}},
    ],
)
def test_what_says_something_is_not(more: dict[str, Any]) -> None:
    assert without(After(id="a", must=1, **more)) is None


def test_nor_is_what_has_no_default() -> None:
    definition = After.__rayfold__
    assert definition.without(definition.encode(After(id="a", must=1)), [("must",)]) is None


def test_nor_is_what_cannot_be_taken_out() -> None:
    """Else it would be sent again as it is, for ever."""
    definition = After.__rayfold__
    data = definition.encode(After(id="a", must=1, whose="Ada"))
    assert definition.without(data, [("whose", "name"), ("none",)]) is None
