"""Changes that are called compatible can really be read; the others cannot."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyUrl, Field, FileUrl, HttpUrl, create_model

from deploy.authoring.catalogue.compatibility import faults
from deploy.authoring.catalogue.lock import schema_of
from deploy.authoring.catalogue.samples import samples
from rayfold import Event, Message, UtcDatetime


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class MoreColor(Enum):
    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Line(Message):
    sku: str
    quantity: int = 1


class Noted(Message):
    sku: str
    quantity: int = 1
    note: str = ""


class Strict(Message):
    sku: str
    quantity: Annotated[int, Field(ge=1)] = 1


class Counted(Message):
    sku: str
    quantity: int = 1
    price: int


class Tree(Message):
    name: str
    below: tuple[Tree, ...] = ()


class Taller(Message):
    name: str | int
    below: tuple[Taller, ...] = ()


class Marked(Message):
    name: Annotated[str, Field(max_length=3)]
    below: tuple[Marked, ...] = ()


class Card(Message):
    kind: Literal["card"]
    number: str


class Cash(Message):
    kind: Literal["cash"]


class Maybe(Message):
    kind: Literal["card"] = "card"
    number: str


DIGITS = Annotated[Decimal, Field(max_digits=4, decimal_places=2)]
PATTERN = Annotated[str, Field(pattern="^[a-z]+$")]
NOT_EMPTY = Annotated[str, Field(min_length=1)]
BOUNDED = Annotated[int, Field(ge=0, le=10)]
MORE_DIGITS = Annotated[Decimal, Field(max_digits=6, decimal_places=2)]
MORE_PLACES = Annotated[Decimal, Field(max_digits=6, decimal_places=4)]
THREE_BYTES = Annotated[bytes, Field(max_length=3)]
FIVE = Annotated[str, Field(max_length=5)]
LATE = Annotated[timedelta, Field(ge=timedelta(0))]
NATURAL = Annotated[Decimal, Field(ge=0)]

TYPES: dict[Any, list[Any]] = {
    int: [0, -5, 7, 10**12],
    float: [1.5, -2.0, 1e300],
    bool: [True, False],
    str: ["", "text", "ein längerer Text"],
    None: [None],
    int | None: [None, 3, -4],
    int | str: [3, -4, "text"],
    int | float: [3, -1.5, 1.12345],
    Decimal: [Decimal("4.50"), Decimal("-1000000")],
    NATURAL: [Decimal("4.50"), Decimal("1.12345")],
    DIGITS: [Decimal("-45.50")],
    UUID: [UUID(int=5)],
    date: [date(2020, 1, 31), date(1999, 1, 1)],
    UtcDatetime: [datetime(2020, 1, 31, 12, 30, 1, tzinfo=UTC)],
    timedelta: [timedelta(days=1, seconds=5), timedelta(-1)],
    Annotated[date, Field(ge=date(2020, 1, 1))]: [date(2020, 1, 1)],
    LATE: [timedelta(seconds=5), timedelta(days=1, seconds=5)],
    MORE_DIGITS: [Decimal("-4500.50")],
    MORE_PLACES: [Decimal("-45.5055")],
    THREE_BYTES: [b"", b"\xff\x00a"],
    Annotated[bytes, Field(max_length=4)]: [b"", b"\xff\x00ab"],
    AnyUrl: ["ftp://example.org/a"],
    FileUrl: ["file:///a"],
    Literal["red", None]: ["red", None],
    Literal[True, False]: [True, False],
    dict[PATTERN, int]: [{}, {"abc": 3}],
    bytes: [b"", b"\xff\x00abc"],
    HttpUrl: ["https://example.org/a"],
    Color: [Color.RED, Color.BLUE],
    MoreColor: [*MoreColor],
    Literal["red"]: ["red"],
    Literal["red", "green"]: ["red", "green"],
    Literal[7]: [7],
    Annotated[int, Field(ge=0)]: [0, 3, 10**12],
    Annotated[int, Field(gt=0)]: [1, 10**12],
    Annotated[int, Field(ge=1)]: [1, 10**12],
    BOUNDED: [0, 3, 10],
    Annotated[int, Field(multiple_of=5)]: [-5, 0, 10**12],
    Annotated[float, Field(gt=0)]: [0.25, 1e300],
    Annotated[str, Field(max_length=3)]: ["", "abc"],
    FIVE: ["", "abcde"],
    NOT_EMPTY: ["a", "ein längerer Text"],
    PATTERN: ["a", "abcdef"],
    list[int]: [[], [3, 1, 3, -9]],
    list[str]: [[], ["a", "a", "bcdef"]],
    tuple[int, ...]: [(), (3, 1, 3, -9)],
    tuple[int, str]: [(5, "five"), (-5, "fünfzehn")],
    tuple[int, str | None]: [(5, "five"), (5, None)],
    frozenset[int]: [frozenset(), frozenset((1, -2, 7))],
    Annotated[list[int], Field(max_length=2)]: [[], [1, -2]],
    Annotated[list[int], Field(min_length=1)]: [[1], [1, -2, -2]],
    dict[str, int]: [{}, {"a": 1, "long key": -2}],
    dict[str, str]: [{}, {"a": "text"}],
    dict[int, int]: [{}, {1: 3}],
    dict[str, int | str]: [{}, {"a": "text", "b": 5}],
    dict[Color, int]: [{}, {Color.BLUE: 3}],
    dict[UUID, int]: [{}, {UUID(int=1): 3}],
    Line: [Line(sku="a"), Line(sku="b", quantity=-5)],
    Noted: [Noted(sku="a"), Noted(sku="b", quantity=-5, note="good")],
    Strict: [Strict(sku="a", quantity=5)],
    Counted: [Counted(sku="b", quantity=-5, price=3)],
    Line | None: [None, Line(sku="b", quantity=-5)],
    tuple[Line, ...]: [(), (Line(sku="a"), Line(sku="b", quantity=-5))],
    tuple[Noted, ...]: [(), (Noted(sku="a", note="good"),)],
    dict[str, Line]: [{}, {"a": Line(sku="b", quantity=-5)}],
    Tree: [Tree(name="a"), Tree(name="a", below=(Tree(name="long name"), Tree(name="c")))],
    Taller: [Taller(name=1), Taller(name="a", below=(Taller(name=1), Taller(name="c")))],
    Marked: [Marked(name="a"), Marked(name="a", below=(Marked(name="b"),))],
    Card: [Card(kind="card", number="1")],
    Card | Cash: [Card(kind="card", number="1"), Cash(kind="cash")],
    Annotated[Card | Cash, Field(discriminator="kind")]: [
        Card(kind="card", number="1"),
        Cash(kind="cash"),
    ],
    Maybe: [Maybe(number="1")],
    Annotated[Maybe | Cash, Field(discriminator="kind")]: [Maybe(number="1"), Cash(kind="cash")],
}
"""Types with values at their edges."""

WRITTEN_BEFORE: dict[Any, list[str]] = {
    Maybe: ['{"v":{"number":"1"}}'],
    Decimal: ['{"v":4.5}'],
    NATURAL: ['{"v":4.5}'],
    DIGITS: ['{"v":4.5}'],
    MORE_DIGITS: ['{"v":4.5}'],
    MORE_PLACES: ['{"v":4.5}'],
}
"""Events of a version when it had fewer fields, or a narrower type: the lock file allows them."""

NOT_KNOWN = {
    (UUID, bytes): "the text of an UUID is base64 by chance",
    (PATTERN, NOT_EMPTY): "what a pattern lets through is not looked into",
    (dict[Color, int], dict[PATTERN, int]): "nor which values one lets through",
    (BOUNDED, DIGITS): "nor how many digits a bounded number has",
    (BOUNDED, MORE_DIGITS): "as above",
    (BOUNDED, MORE_PLACES): "as above",
    (Literal[7], DIGITS): "as above",
    (Literal[7], MORE_DIGITS): "as above",
    (Literal[7], MORE_PLACES): "as above",
    (THREE_BYTES, FIVE): "nor how long the base64 of some bytes is",
}
"""What is refused although it would be read."""

MODELS: dict[Any, type[Event]] = {
    kind: create_model(f"E{number}", __base__=Event, v=(kind, ...))
    for number, kind in enumerate(TYPES)
}
SCHEMAS = {kind: schema_of(model) for kind, model in MODELS.items()}


def same(old: Any, new: Any) -> bool:
    """Return whether nothing was lost: a number may be a Decimal's text, a model may have more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(name in new and same(old[name], new[name]) for name in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    if isinstance(old, bool) or isinstance(new, bool) or old is None or new is None:
        return old is new
    if isinstance(old, int | float) and isinstance(new, str):
        try:
            return Decimal(str(old)) == Decimal(new)
        except InvalidOperation:
            return False
    return bool(old == new)


def survives(model: type[Event], data: str) -> bool:
    """Return whether the reader of the log reads it, as what it was."""
    try:
        event = model.__pydantic_validator__.validate_json(data, extra="ignore")
    except ValueError:
        return False
    return same(json.loads(data), json.loads(event.model_dump_json()))


@pytest.mark.parametrize("old", range(len(TYPES)))
def test_changes_of_a_type_are_judged_as_the_reader_behaves(old: int) -> None:
    kind = list(TYPES)[old]
    written = [MODELS[kind](v=value).model_dump_json() for value in TYPES[kind]]
    written += WRITTEN_BEFORE.get(kind, [])
    for new in TYPES:
        if (kind, new) in NOT_KNOWN:
            continue
        found = faults(SCHEMAS[kind], SCHEMAS[new])
        lost = [each for each in written if not survives(MODELS[new], each)]
        assert bool(found) == bool(lost), (kind, new, found, lost)


def test_a_sample_of_a_type_is_read() -> None:
    for kind, schema in SCHEMAS.items():
        for sample in samples(schema):
            MODELS[kind].model_validate_json(json.dumps(sample))
