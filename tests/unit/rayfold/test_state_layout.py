"""Which tables a state becomes, and what is refused before anybody stores it."""

# ruff: noqa: RUF012  # pydantic copies defaults

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import pytest

from rayfold import (
    Aggregate,
    AsJson,
    Command,
    Event,
    Message,
    RenamedFrom,
    RowsOf,
    StateStored,
    Storage,
)
from rayfold.state_layout import layout_of


class Begin(Command, name="begin"):
    thing: UUID


class Begun(Event, name="Begun"):
    thing: UUID


class Part(Message):
    name: str
    sizes: list[int] = []
    spare: Part | None = None


class Size(Message):
    width: int = 0
    unit: str | None = None


class Thing(Message):
    size: Size = Size()
    backup: Size | None = None
    names: dict[str, Size] = {}
    extra: Annotated[dict[str, Any], AsJson("a form of the customer's")] = {}
    tags: Annotated[frozenset[str], RowsOf(str)] = frozenset()
    title: Annotated[str, RenamedFrom("label")] = ""


def test_models_are_columns_and_collections_are_tables() -> None:
    assert layout_of("thing", Thing).mistakes == ()
    assert layout_of("thing", Thing).described() == {
        "thing": {
            "size_width": ["numeric", False],
            "size_unit": ["text", True],
            "backup": ["boolean", False],
            "backup_width": ["numeric", True],
            "backup_unit": ["text", True],
            "extra": ["json", False],
            "title": ["text", False],
        },
        "thing_names": {
            "key": ["text", False],
            "width": ["numeric", False],
            "unit": ["text", True],
        },
        "thing_tags": {"value": ["text", False]},
    }


class Wrong(Message):
    either: int | Size = 0
    maybe: list[int] | None = None
    anything: Any = None
    free: Annotated[dict[str, Any], AsJson(" ")] = {}
    mixed: list[int | Size] = []
    size_width: int = 0
    xmin: int = 0
    size: Size = Size()
    part: Part = Part(name="")
    a_name_that_goes_on_for_longer_than_any_table_of_postgres_can_be_called: int = 0


def test_all_mistakes_are_told_at_once() -> None:
    told = "\n".join(layout_of("thing", Wrong).mistakes)
    for each in (
        "Wrong.either is a",
        "Wrong.maybe is an optional collection",
        "Wrong.anything is a",
        "Wrong.free: AsJson needs a reason",
        "Wrong.mixed holds items that are neither scalars nor models",
        "two columns 'size_width'",
        "cannot have a column 'xmin'",
        "holds itself",
        "too long for Postgres",
    ):
        assert each in told


@pytest.mark.parametrize(
    ("base", "storage", "found"),
    [
        (Aggregate, None, Storage.EVENTS),
        (Aggregate, "state", Storage.STATE),
        (StateStored, None, Storage.STATE),
        (StateStored, "events", Storage.EVENTS),
    ],
)
def test_one_class_parameter_selects_the_storage(base: Any, storage: Any, found: Storage) -> None:
    class One(
        base[Wrong, Begin, Begun],  # type: ignore[misc]
        category="one",
        id_field="thing",
        initial=Wrong(),
        storage=storage,
    ):
        @staticmethod
        def decide(state: Any, command: Any) -> Any:
            return []

        @staticmethod
        def evolve(state: Any, event: Any) -> Any:
            return state

    assert One.storage == found
    assert One.commands == (Begin,)
    assert bool(One.mistakes()) is (found == Storage.STATE)  # its state fits no table


def test_an_unknown_storage_is_refused() -> None:
    class Two(
        Aggregate[Thing, Begin, Begun],
        category="two",
        id_field="thing",
        initial=Thing(),
        storage="disk",  # type: ignore[arg-type]
    ):
        @staticmethod
        def decide(state: Thing, command: Begin) -> list[Begun]:
            return []

        @staticmethod
        def evolve(state: Thing, event: Begun) -> Thing:
            return state

    assert Two.mistakes() == [
        "test_an_unknown_storage_is_refused.<locals>.Two: storage is"
        " one of events, state, not 'disk'"
    ]
