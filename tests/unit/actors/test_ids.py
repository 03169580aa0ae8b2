"""Which ids an aggregate can have: all that every store can keep rows under."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from actors.envelope import MAX_ID_BYTES, enclose, instances_of, stream_of
from actors.errors import InvalidCommand
from actors.host.host import Host
from eventstore.memory import MemoryLog
from rayfold import Aggregate, Command, Decision, Event, Message, ReadMany, Registry, View, on


class Labelled(Event, name="Labelled"):
    text: str


class AddLabel(Command, name="add-label", creates=True):
    text: str


class Label(Message):
    pass


class LabelAggregate(
    Aggregate[Label, AddLabel, Labelled], category="label", id_field="text", initial=Label()
):
    @staticmethod
    def decide(state: Label, command: AddLabel) -> list[Labelled]:
        return [Labelled(text=command.text)]

    @staticmethod
    def evolve(state: Label, event: Labelled) -> Label:
        return state


LONGEST = "x" * MAX_ID_BYTES


@pytest.mark.parametrize(
    "text",
    ["-", "a-b", "$all", "$$x", " x ", "a/b", "..", "'; --", "茶", "e\u0301", "🍵" * 99, LONGEST],
)
async def test_an_id_may_have_any_character_that_can_be_shown(text: str) -> None:
    log, registry = MemoryLog(), Registry([sys.modules[__name__]])
    envelope = enclose(registry, AddLabel(text=text))
    assert envelope.stream == f"label-{text}"
    [outcome] = await Host(registry, log, "test").handle([envelope])
    assert not isinstance(outcome, Exception)
    assert len([raw async for raw in log.read_stream(f"label-{text}")]) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "text is empty"),
        ("a\0b", "control characters"),
        ("a\nb", "control characters"),
        ("\x7f", "control characters"),
        ("a\ud800", "control characters"),
        ("x" * (MAX_ID_BYTES + 1), "has 1025 bytes; at most 1024"),
        ("茶" * 400, "has 1200 bytes"),
    ],
)
def test_an_id_that_no_store_can_keep_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidCommand, match=says):
        stream_of(LabelAggregate, AddLabel.model_construct(text=text), "")


class Shelved(Event, name="Shelved"):
    text: str
    shelf: str
    note: str
    sort: str


class Shelve(Command, name="shelve", creates=True):
    text: str
    shelf: str = ""
    note: str = ""
    sort: str | None = None


class Shelving(
    Aggregate[Label, Shelve, Shelved], category="shelving", id_field="text", initial=Label()
):
    @staticmethod
    def decide(state: Label, command: Shelve) -> list[Shelved]:
        return [Shelved(**command.model_dump())]

    @staticmethod
    def evolve(state: Label, event: Shelved) -> Label:
        return state


class Shelf(View, name="shelf", key="shelf", indexes=("sort",)):
    shelf: str
    sort: str = ""

    @staticmethod
    @on(Shelved)
    def shelved(shelf: Shelf, event: Shelved) -> Shelf:
        return shelf.replace(sort=event.sort)


class Notes(View, name="notes", key="note", stores=("memory",)):
    note: str

    @staticmethod
    @on(Shelved)
    def shelved(notes: Notes, event: Shelved) -> Notes:
        return notes


SHELVES = Registry([sys.modules[__name__]])


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("shelf", "x" * 6000, "shelf has 6000 bytes; at most 1024"),
        ("shelf", "茶" * 400, "shelf has 1200 bytes"),
        ("shelf", "a\0b", "shelf holds a NUL character"),
        ("sort", "x" * 1025, "sort has 1025 bytes"),
    ],
)
def test_a_field_that_no_view_in_postgres_could_have_a_row_by_is_refused(
    field: str, text: str, says: str
) -> None:
    with pytest.raises(InvalidCommand, match=says) as refused:
        enclose(SHELVES, Shelve(text="a", **{field: text}))
    assert refused.value.field == field
    assert pickle.loads(pickle.dumps(refused.value)).field == field


class Tear(Command, name="tear"):
    text: str
    others: tuple[str, ...]


class Tearing(
    Decision[Tear], reads={"first": LabelAggregate, "others": ReadMany(LabelAggregate, by="others")}
):
    @staticmethod
    def decide(states: Any, command: Tear) -> list[Event]:
        return []


@pytest.mark.parametrize(
    ("others", "says"),
    [
        (("b", ""), "an id in others is empty"),
        (("b", "B"), "two of others are the same but for their case: 'label-B'"),
        (("b", "a"), "first and others are the same: 'label-a'"),
        (tuple(map(str, range(100_000))), "it names more than 16 aggregates"),
    ],
)
def test_of_many_ids_the_invalid_one_is_named(others: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidCommand, match=says):
        instances_of(Tearing.__rayfold__, Tear(text="a", others=others), "")


def test_other_fields_may_have_any_text() -> None:
    assert SHELVES.keyed_by == {Shelve: ("shelf", "sort")}
    long = Shelve(text="a", shelf=LONGEST, note="x\0" * 6000, sort="a\nb")
    assert enclose(SHELVES, long).stream == "shelving-a"
