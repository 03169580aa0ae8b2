"""`replace` takes what the constructor takes, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from functools import cached_property
from types import ModuleType
from typing import Annotated, Any

import pytest
from pydantic import Field, PrivateAttr, field_validator

from actors.errors import DecisionFailed
from actors.local import LocalRuntime
from eventstore.records import RawRecord
from projections.folding import Folding
from rayfold import Aggregate, Command, Event, Message, Registry, UtcDatetime, View, on


class Shade(StrEnum):
    LIGHT = "light"


class Part(Message):
    name: str
    parts: tuple[Part, ...] = ()


class Whole(Message):
    number: int = 0
    small: Annotated[int, Field(le=9)] = 0
    shade: Shade | None = None
    names: dict[str, int] = Field(default={})
    part: Part = Part(name="a")
    at: UtcDatetime | None = None
    even: int = 0

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("an odd one")
        return value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number", "two"),
        ("number", None),
        ("small", 10),
        ("shade", "dark"),
        ("names", {"a": "two"}),
        ("part", {"nome": "a"}),
        ("even", 3),
    ],
)
def test_a_value_that_a_field_does_not_accept_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^Whole\.{field}.* cannot be .*: ") as told:
        Whole().replace(**{field: value})
    assert len(str(told.value).splitlines()) == 1


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="Whole has no field 'numbre'"):
        Whole().replace(numbre=1)


def test_a_recursive_model_is_checked_too() -> None:
    with pytest.raises(ValueError, match=r"Part\.parts\.0 cannot be"):
        Part(name="a").replace(parts=(1,))


def test_replace_converts_valid_values_as_the_constructor_does() -> None:
    east = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    changes: dict[str, Any] = {
        "number": 2**70,
        "small": 9,
        "shade": Shade.LIGHT,
        "names": {"a": 1},
        "part": Part(name="b"),
        "at": east,
        "even": 2,
    }
    replaced = Whole().replace(**changes)
    assert replaced == Whole(**changes)
    assert replaced.at == datetime(2026, 1, 1, tzinfo=UTC)
    assert replaced.at is not None
    assert replaced.at.tzinfo is UTC
    assert Whole().replace(shade=None) == Whole(shade=None)


class Put(Command, name="put"):
    thing: str
    value: str


class WasPut(Event, name="WasPut"):
    thing: str
    value: str


class Thing(Aggregate[Whole, Put, WasPut], category="thing", id_field="thing", initial=Whole()):
    @staticmethod
    def decide(state: Whole, command: Put) -> list[WasPut]:
        return [WasPut(**vars(command))]

    @staticmethod
    def evolve(state: Whole, event: WasPut) -> Whole:
        return state.replace(number=event.value)


class Wrong(View, name="wrong", key="thing"):
    thing: str
    number: int = 0

    @staticmethod
    @on(WasPut)
    def put(row: Wrong, event: WasPut) -> Wrong:
        return row.replace(number=event.value)


class Moved(View, name="moved", key="thing"):
    thing: str

    @staticmethod
    @on(WasPut)
    def put(row: Moved, event: WasPut) -> Moved:
        return row.replace(thing=event.value)


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (Wrong, "Wrong.number cannot be this str"),
        (Moved, "the fold returned a row of the key 'b', where thing is 'a'"),
    ],
)
def test_a_fold_that_returns_such_a_row_parks_it(view: type[View], said: str) -> None:
    definition = view.__rayfold__
    folding = Folding(_registry(), [definition])
    record = RawRecord("WasPut", b'{"thing":"a","value":"b"}', b"{}", "thing-a", 0, 1, 0)
    [step] = folding.steps(record)
    assert folding.fold(step, None) is None
    [parked] = folding.take_noted().parked
    assert (parked.view, parked.key) == (definition.name, "a")
    assert said in parked.error


async def test_a_command_that_leads_to_such_a_state_is_refused() -> None:
    runtime = LocalRuntime(_registry())
    with pytest.raises(DecisionFailed, match=r"Whole\.number cannot be this str"):
        await runtime.send(Put(thing="a", value="b"))
    assert [raw async for raw in runtime.log.read_stream("thing-a")] == []


def _registry() -> Registry:
    module = ModuleType(__name__)
    vars(module).update({each.__name__: each for each in (Thing, Wrong, Moved)})
    return Registry([module])


class Sums(Message):
    lines: tuple[int, ...] = ()
    _doubled: int = PrivateAttr(default=0)
    _seen: dict[str, int] = PrivateAttr(default_factory=dict)

    @cached_property
    def total(self) -> int:
        return sum(self.lines)

    def model_post_init(self, context: Any) -> None:
        self._doubled = 2 * sum(self.lines)


def test_computed_fields_are_computed_again() -> None:
    """A decision on old values would be wrong."""
    before = Sums(lines=(1,))
    assert before.total == 1
    before._seen["a"] = 1

    after = before.replace(lines=(1, 2))

    assert (after.total, after._doubled, after._seen) == (3, 6, {})
    assert (before.total, before._doubled, before._seen) == (1, 2, {"a": 1})
    assert after == Sums(lines=(1, 2))
