"""What a command of another release has beyond what this release reads."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import (
    ConfigDict,
    Field,
    OnErrorOmit,
    ValidationError,
    WrapValidator,
    computed_field,
    model_validator,
)

from actors.errors import Unavailable
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


def test_a_message_without_unknown_fields_is_read_completely() -> None:
    plain = Before(id="a", must=1, floors=(Loose(number=1),), by_name={"x": Loose(number=2)})
    assert read(plain) == (plain, [])


def test_each_ignored_field_is_reported_at_any_depth() -> None:
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


def test_fields_with_their_default_value_are_left_out() -> None:
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
def test_fields_with_another_value_cannot_be_left_out(more: dict[str, Any]) -> None:
    assert without(After(id="a", must=1, **more)) is None


def test_fields_without_a_default_cannot_be_left_out() -> None:
    definition = After.__rayfold__
    assert definition.without(definition.encode(After(id="a", must=1)), [("must",)]) is None


def test_fields_that_cannot_be_removed_from_the_json_are_not_left_out() -> None:
    """Otherwise the same command would be sent again for ever."""
    definition = After.__rayfold__
    data = definition.encode(After(id="a", must=1, whose="Ada"))
    assert definition.without(data, [("whose", "name"), ("none",)]) is None


class Contact(Message):
    city: str
    street: str = ""


class Kept(Command, name="kept"):
    """A release before's."""

    thing_id: str
    contact: Personal[Contact | None] = None
    gone: str = ""


class Now(Command, name="now"):
    """Its contact has a street no more."""

    thing_id: str
    contact: Personal[Loose | None] = None


def test_fields_within_personal_data_are_left_out_too() -> None:
    kept = Kept.__rayfold__.encode(Kept(thing_id="a", contact=Contact(city="Bern")))
    less = Kept.__rayfold__.without(kept, [("contact", "street")])
    assert less is not None
    assert json.loads(less)["contact"]["$personal"]["value"] == {"city": "Bern"}
    lives = Kept(thing_id="a", contact=Contact(city="Bern", street="Gasse"))
    assert Kept.__rayfold__.without(Kept.__rayfold__.encode(lives), [("contact", "street")]) is None


def test_fields_that_were_removed_from_the_code_are_left_out() -> None:
    """An earlier release stored the command until it was due, or its process was answered."""
    kept = Kept(thing_id="a", contact=Contact(city="Bern", street="Gasse"), gone="ada")
    data = Kept.__rayfold__.encode(kept).replace(b'"city":"Bern"', b'"number":1')
    command, unread = Now.__rayfold__.decode_all(data)
    assert {*unread} == {("gone",), ("contact", "street")}
    less = Now.__rayfold__.without(data, unread)
    assert less is not None
    again, unread = Now.__rayfold__.decode_all(less)
    assert (again, [*unread]) == (command, [])


class Picky(Command, name="picky"):
    thing_id: str
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def looked_at(cls, data: Any) -> Any:
        data["note"]
        return data


def test_a_field_is_not_left_out_if_a_validator_raises_without_it() -> None:
    definition = Picky.__rayfold__
    assert definition.without(definition.encode(Picky(thing_id="a", note="")), [("note",)]) is None


class Sets(Command, name="sets"):
    thing_id: str
    floors: frozenset[Floor] = frozenset()


class FewerSets(Command, name="fewer-sets"):
    thing_id: str
    floors: frozenset[Loose] = frozenset()


def test_a_whole_set_is_reported_if_ignored_fields_make_members_equal() -> None:
    floors = frozenset({Floor(number=1), Floor(number=1, lift=True)})
    data = Sets.__rayfold__.encode(Sets(thing_id="a", floors=floors))
    assert FewerSets.__rayfold__.decode_all(data)[1] == [("floors",)]


def test_of_many_ignored_fields_only_those_of_the_command_are_named_without_values() -> None:
    floor = Floor(number=1, lift=True)
    said = After(
        id="a", must=1, by_name={f"ada-{each}@example.org": floor for each in range(1_001)}
    )
    unread = read(said)[1]
    assert {*unread} == {("by_name",), ("note",), ("whose",)}
    told = str(Unavailable.not_reading("before", [("by_name", "ada@example.org", "lift")]))
    assert "by_name" in told
    assert "ada" not in told


def test_a_computed_field_is_not_an_ignored_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does each such command cost its writer a second reading."""
    monkeypatch.setattr("rayfold.messages.passed_over", None)
    assert read(Before(id="a", must=1)) == (Before(id="a", must=1), [])


class Priced(Message):
    sku: str
    price: int = 0

    @computed_field
    @property
    def total(self) -> int:
        return self.price


class Plain(Message):
    sku: str


def forgiving(value: Any, inner: Any) -> Any:
    try:
        return inner(value)
    except ValueError:
        return None


class Branches(Command, name="branches"):
    thing_id: str
    line: Priced | dict[str, str | int] | None = None
    first: Annotated[Priced | Plain | None, Field(union_mode="left_to_right")] = None
    lines: tuple[OnErrorOmit[Priced], ...] = ()
    wrapped: Annotated[Priced | None, WrapValidator(forgiving)] = None


def test_a_command_with_computed_fields_is_read_as_it_was_sent() -> None:
    """A second reading without the computed fields could give another command."""
    line = Priced(sku="tea", price=6)
    sent = Branches(thing_id="a", line=line, first=line, lines=(line,), wrapped=line)
    data = Branches.__rayfold__.encode(sent)
    assert Branches.__rayfold__.decode_all(data) == (sent, ())


class Whole(Command, name="whole"):
    thing_id: str
    lines: tuple[Plain, ...] = ()

    @computed_field
    @property
    def price(self) -> int:
        return len(self.lines)

    @model_validator(mode="wrap")
    @classmethod
    def told(cls, data: Any, handler: Any) -> Any:
        try:
            return handler(data)
        except ValidationError as error:
            raise ValueError("it is none") from error


class Next(Command, name="next"):
    thing_id: str
    lines: tuple[Priced, ...] = ()


def test_an_ignored_field_named_as_a_computed_one_of_another_model_is_reported() -> None:
    sent = Next(thing_id="a", lines=(Priced(sku="tea", price=6),))
    found, unread = Whole.__rayfold__.decode_all(Next.__rayfold__.encode(sent))
    assert found == Whole(thing_id="a", lines=(Plain(sku="tea"),))
    assert {*unread} == {("lines", 0, "price"), ("lines", 0, "total")}
