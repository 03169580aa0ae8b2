"""JSON of a set is the same in every process, though the set has another order in each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import Field, PlainSerializer, TypeAdapter

from rayfold import Command, Message
from rayfold.core_schemas import has_serializers
from rayfold.ordered_sets import ordered

TEXTS = ("a", "b", "c", "d", "e", "f", "g")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Tagged(Message):
    tags: frozenset[str]


@dataclass(frozen=True)
class Plain:
    tags: frozenset[str]


class Shelf(Message):
    texts: set[str] = Field(default_factory=set)
    by_name: dict[str, set[int]] = Field(default_factory=dict)
    several: tuple[Tagged, ...] = ()
    plain: Plain | None = None
    maybe: set[Colour] | None = None
    nested: frozenset[frozenset[str]] = frozenset()
    mixed: frozenset[int | str] = frozenset()
    within: Shelf | None = None
    own: Annotated[frozenset[int], PlainSerializer(lambda value: len(value))] = frozenset()


def test_sets_are_written_in_order_wherever_they_are() -> None:
    inner = Shelf(texts=set(TEXTS))
    shelf = Shelf(
        texts=set(TEXTS),
        by_name={"numbers": {10, 9, 1}},
        several=(Tagged(tags=frozenset(TEXTS)),),
        plain=Plain(frozenset(TEXTS)),
        maybe={Colour.RED, Colour.BLUE},
        nested=frozenset({frozenset("fa"), frozenset("bc"), frozenset("gd")}),
        mixed=frozenset({"b", 2, "a", 10}),
        own=frozenset({1, 2}),
    ).replace(within=inner)
    written = json.loads(shelf.model_dump_json())
    assert written["texts"] == written["within"]["texts"] == [*TEXTS]
    assert written["by_name"] == {"numbers": [1, 9, 10]}
    assert written["several"] == [{"tags": [*TEXTS]}]
    assert written["plain"] == {"tags": [*TEXTS]}
    assert written["maybe"] == ["blue", "red"]
    assert written["nested"] == [["a", "f"], ["b", "c"], ["d", "g"]]
    assert written["mixed"] == ["a", "b", 10, 2]
    assert written["own"] == 2


def test_it_comes_back_and_its_schema_is_that_of_a_set() -> None:
    tagged = Tagged(tags=frozenset(TEXTS))
    assert Tagged.model_validate_json(tagged.model_dump_json()) == tagged
    assert tagged.model_dump() == {"tags": frozenset(TEXTS)}
    for mode in ("validation", "serialization"):
        assert Tagged.model_json_schema(mode=mode)["properties"]["tags"]["uniqueItems"]
    assert not has_serializers(Tagged)
    assert has_serializers(Shelf)


@pytest.mark.parametrize(
    "values",
    [
        {datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 1)},
        {(1, "b"), (1, "a")},
        {1, "1", None},
    ],
)
def test_members_without_an_order_are_sorted_by_their_json(values: set[Any]) -> None:
    written = TypeAdapter(list[Any]).dump_json(ordered(values))
    assert written == TypeAdapter(list[Any]).dump_json(ordered({*reversed([*values])}))
    assert sorted(map(str, ordered(values))) == sorted(map(str, values))


class Tag(Command, name="tag"):
    thing: str
    tags: frozenset[str]


def test_a_command_that_is_sent_again_is_the_same() -> None:
    assert Tag.__rayfold__.encode(Tag(thing="a", tags=frozenset(TEXTS))) == (
        b'{"thing":"a","tags":["a","b","c","d","e","f","g"]}'
    )
