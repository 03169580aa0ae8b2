"""What a domain author may declare, and what is refused with a sentence."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from rayfold import (
    Aggregate,
    Command,
    DomainError,
    Event,
    Message,
    Query,
    Registry,
    UnknownEventType,
    UnreadableEvent,
    View,
    on,
    upcaster,
)


class Rename(Command, name="rename"):
    thing_id: str
    label: str


class Renamed(Event, name="Renamed", version=3):
    thing_id: str
    label: str


class ThingState(Message):
    label: str = ""


class Thing(
    Aggregate[ThingState, Rename, Renamed],
    category="thing",
    id_field="thing_id",
    initial=ThingState(),
):
    @staticmethod
    def decide(state: Any, command: Any) -> list[Event]:
        return [Renamed(thing_id=command.thing_id, label=command.label)]

    @staticmethod
    def evolve(state: Any, event: Any) -> Any:
        return state.replace(label=event.label)


@upcaster("Renamed", from_version=1)
def called_name(data: dict[str, Any]) -> dict[str, Any]:
    return {"thing_id": data["thing_id"], "title": data["name"]}


@upcaster("Renamed", from_version=2)
def called_title(data: dict[str, Any]) -> dict[str, Any]:
    return {"thing_id": data["thing_id"], "label": data["title"]}


@upcaster("Titled", from_version=1)
def had_another_name(data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "Renamed", {"thing_id": data["thing_id"], "title": data["name"]}


class Things(View, name="things", key="thing_id"):
    thing_id: str
    label: str = ""

    @staticmethod
    @on(Renamed)
    def renamed(row: Things, event: Renamed) -> Things:
        return row.replace(label=event.label)


def registry() -> Registry:
    return Registry([sys.modules[__name__]])


def test_an_event_of_the_present_version_is_read() -> None:
    [event] = registry().decode("Renamed", b'{"thing_id":"1","label":"x"}', 3, "thing-1", 0)
    assert event == Renamed(thing_id="1", label="x")


@pytest.mark.parametrize(
    ("name", "version", "data"),
    [
        ("Renamed", 1, b'{"thing_id":"1","name":"x"}'),
        ("Renamed", 2, b'{"thing_id":"1","title":"x"}'),
        ("Titled", 1, b'{"thing_id":"1","name":"x"}'),
    ],
)
def test_an_old_event_is_read_as_the_present_version(name: str, version: int, data: bytes) -> None:
    assert registry().decode(name, data, version, "thing-1", 0) == [
        Renamed(thing_id="1", label="x")
    ]


def test_an_unknown_event_type_is_named_with_its_position() -> None:
    with pytest.raises(UnknownEventType, match=r"'Gone'.*revision 7.*'thing-1'"):
        registry().decode("Gone", b"{}", 1, "thing-1", 7)


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"thing_id":"1"}', b'{"thing_id":1,"label":2}'])
def test_an_unreadable_event_is_named_with_its_position(data: bytes) -> None:
    with pytest.raises(UnreadableEvent, match=r"'Renamed' at revision 7 of stream 'thing-1'"):
        registry().decode("Renamed", data, 3, "thing-1", 7)


def test_an_unknown_field_does_not_make_an_event_unreadable() -> None:
    data = b'{"thing_id":"1","label":"x","from":"the future"}'
    assert registry().decode("Renamed", data, 3, "thing-1", 0) == [Renamed(thing_id="1", label="x")]


def test_a_function_may_have_several_decorators() -> None:
    class Moved(Event, name="Moved"):
        thing_id: str
        label: str

    class Places(View, name="places", key="thing_id"):
        thing_id: str
        label: str = ""

        @staticmethod
        @on(Renamed)
        @on(Moved)
        def labelled(row: Places, event: Renamed | Moved) -> Places:
            return row.replace(label=event.label)

    assert set(Places.__rayfold__.folds) == {Renamed, Moved}


def test_names_are_given_and_checked() -> None:
    class NotKebab(Command, name="NotKebab"):
        pass

    class NotPascal(Event, name="not-pascal"):
        pass

    class Nameless(Event):
        pass

    assert "kebab-case" in mistakes_of(NotKebab)
    assert "PascalCase" in mistakes_of(NotPascal)
    assert "it has none" in mistakes_of(Nameless)


@pytest.mark.parametrize(
    ("named", "told"), [("two-words", "without a dash"), ("snapshot", "of its own in 'snapshot'")]
)
def test_a_category_must_not_have_a_dash_or_be_reserved(named: str, told: str) -> None:
    class Bad(
        Aggregate[ThingState, Rename, Renamed],
        category=named,
        id_field="thing_id",
        initial=ThingState(),
    ):
        pass

    assert any(told in each for each in Bad.mistakes())


def test_a_view_must_have_the_fields_that_it_names() -> None:
    class Bad(View, name="bad", key="thing_id", indexes=("colour",)):
        thing_id: str

    assert "no field 'colour'" in mistakes_of(Bad)


def test_a_query_must_have_the_key_of_its_view() -> None:
    class Bad(Query, name="bad", view=Things):
        label: str

    assert "must have the field 'thing_id'" in mistakes_of(Bad)


def test_all_mistakes_are_reported_at_once() -> None:
    module = ModuleType("mistaken")
    for name, made in (
        ("One", type("One", (View,), {"__module__": "mistaken"}, name="Not kebab")),
        ("Two", type("Two", (Query,), {"__module__": "mistaken"}, name="two")),
    ):
        setattr(module, name, made)
    with pytest.raises(DomainError) as caught:
        Registry([module])
    assert len(caught.value.mistakes) == 4
    assert len(str(caught.value).splitlines()) == 4


def mistakes_of(declared: Any) -> str:
    return "\n".join(declared.__rayfold__.mistakes())


def test_a_package_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(DomainError, match="no_such_package_anywhere"):
        Registry.load("no_such_package_anywhere")
