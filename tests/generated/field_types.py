"""Types of fields that a domain may have, each with a strategy for its values."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Network
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from pydantic import (
    AnyUrl,
    AwareDatetime,
    BeforeValidator,
    Field,
    HttpUrl,
    JsonValue,
    PlainSerializer,
    RootModel,
    computed_field,
)
from pydantic import dataclasses as pydantic_dataclasses
from pydantic_core import core_schema
from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

from rayfold import Cents, Message, UtcDatetime

T = TypeVar("T")
Values = st.SearchStrategy[Any]


class FieldType(NamedTuple):
    """An annotation, and what values it takes."""

    annotation: Any
    values: Values


class Shade(StrEnum):
    LIGHT = "light"
    DARK = "dark"


class Size(IntEnum):
    SMALL = -1
    LARGE = 2**40


class OldStyle(str, Enum):  # noqa: UP042  # what `str` makes of it is not its value
    ONE = "one"
    TWO = "two"


class Tone(Enum):
    HIGH = "high"
    LOW = "low"


class Mixed(Enum):
    TEXT = "text"
    NUMBER = 7


class Rate(Enum):
    """Members that are neither a text nor a number in JSON: it takes a validator to read them."""

    LOW = Decimal("0.07")
    FULL = Decimal("0.19")


class Address(Message):
    street: str
    number: int | None = None


class Boxed(Message, Generic[T]):
    content: T
    since: UtcDatetime


class Tree(Message):
    label: str
    children: tuple[Tree, ...] = ()


class ByCard(Message):
    kind: Literal["card"]
    digits: str


class ByTransfer(Message):
    kind: Literal["transfer"]
    cents: Cents


class WithComputed(Message):
    net: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gross(self) -> int:
        return self.net * 2


class Aliased(Message):
    inner: int = Field(alias="outerName")


@dataclass(frozen=True)
class Plain:
    when: date
    blob: bytes


@pydantic_dataclasses.dataclass(frozen=True)
class Checked:
    amount: Decimal


class Typed(TypedDict):
    what: str
    at: UtcDatetime


class Pair(NamedTuple):
    left: int
    right: UUID


class Rooted(RootModel[Address], frozen=True):
    pass


class Wrapped(str):
    """A text that is a type of its own, as pydantic's documentation has such."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        given = [core_schema.is_instance_schema(cls), core_schema.str_schema()]
        return core_schema.no_info_after_validator_function(
            lambda value: cls(value), core_schema.union_schema(given)
        )


ParsedRate = Annotated[
    Rate, BeforeValidator(lambda value: Rate(Decimal(getattr(value, "value", value))))
]
Joined = Annotated[
    tuple[int, int],
    PlainSerializer(lambda pair: f"{pair[0]}:{pair[1]}"),
    BeforeValidator(lambda value: value.split(":") if isinstance(value, str) else value),
]
Payment = Annotated[ByCard | ByTransfer, Field(discriminator="kind")]

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
zones = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-11.5))])
in_utc = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
finite = st.floats(allow_nan=False, allow_infinity=False)
decimals = st.decimals(allow_nan=False, allow_infinity=False)
addresses = st.builds(Address, street=texts, number=st.none() | st.integers())
trees = st.recursive(
    st.builds(Tree, label=texts),
    lambda inner: st.builds(Tree, label=texts, children=st.lists(inner, max_size=2).map(tuple)),
    max_leaves=4,
)

ORDERED = [
    FieldType(str, texts),
    FieldType(bool, st.booleans()),
    FieldType(int, st.integers()),
    FieldType(int, st.sampled_from([0, -1, 2**63 - 1, -(2**63), 2**63, -(2**70), 10**40])),
    FieldType(float, finite),
    FieldType(Decimal, decimals),
    FieldType(UUID, st.uuids()),
    FieldType(UtcDatetime, in_utc),
    FieldType(date, st.dates()),
    FieldType(timedelta, st.timedeltas()),
    FieldType(Shade, st.sampled_from(Shade)),
    FieldType(Size, st.sampled_from(Size)),
    FieldType(OldStyle, st.sampled_from(OldStyle)),
    FieldType(Tone, st.sampled_from(Tone)),
]
"""Types that can be keys and indexes too."""

HASHABLE = [
    *ORDERED,
    FieldType(time, st.times()),
    FieldType(bytes, st.binary(max_size=12)),
    FieldType(Mixed, st.sampled_from(Mixed)),
    FieldType(Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    FieldType(AnyUrl, st.sampled_from(["x://y/z?q=1#f", "https://a.example/ä"]).map(AnyUrl)),
    FieldType(HttpUrl, st.just("http://a.example:80").map(HttpUrl)),
    FieldType(IPv4Address, st.ip_addresses(v=4)),
    FieldType(IPv6Network, st.just(IPv6Network("fe80::/64"))),
    FieldType(PurePosixPath, st.just(PurePosixPath("/a/b c"))),
]

KEYS = [
    *(each for each in HASHABLE if each.annotation not in (Mixed, Literal["a", 1, None])),
    FieldType(int | Literal["all"], st.integers() | st.just("all")),
    FieldType(Size | Literal["all"], st.sampled_from([*Size, "all"])),
    FieldType(Joined, st.tuples(st.integers(), st.integers())),
    FieldType(Wrapped, texts.map(Wrapped)),
]
"""Types that keys of a dictionary may have: JSON makes text of them, and text is read as them."""

SIMPLE = [
    *HASHABLE,
    FieldType(
        JsonValue,
        st.recursive(
            st.none() | st.booleans() | st.integers() | finite | texts,
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
            max_leaves=4,
        ),
    ),
    FieldType(Address, addresses),
    FieldType(Tree, trees),
    FieldType(Boxed[bytes], st.builds(Boxed[bytes], content=st.binary(max_size=9), since=in_utc)),
    FieldType(
        Payment,
        st.builds(ByCard, kind=st.just("card"), digits=texts)
        | st.builds(ByTransfer, kind=st.just("transfer"), cents=st.integers(0, 10**12)),
    ),
    FieldType(WithComputed, st.builds(WithComputed, net=st.integers())),
    FieldType(Aliased, st.builds(lambda inner: Aliased(inner=inner), st.integers())),
    FieldType(Plain, st.builds(Plain, when=st.dates(), blob=st.binary(max_size=5))),
    FieldType(Checked, st.builds(Checked, amount=decimals)),
    FieldType(Typed, st.fixed_dictionaries({"what": texts, "at": in_utc})),
    FieldType(Pair, st.builds(Pair, left=st.integers(), right=st.uuids())),
    FieldType(Rooted, addresses.map(Rooted)),
    FieldType(ParsedRate, st.sampled_from(Rate)),
]


ZONED = FieldType(
    AwareDatetime, st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=zones)
)
"""An instant with its zone: an event may hold it, a row not."""


def _list(inner: FieldType) -> FieldType:
    return FieldType(list[inner.annotation], st.lists(inner.values, max_size=3))  # type: ignore[name-defined]


def _tuple(inner: FieldType) -> FieldType:
    values = st.lists(inner.values, max_size=3).map(tuple)
    return FieldType(tuple[inner.annotation, ...], values)  # type: ignore[name-defined]


def _deque(inner: FieldType) -> FieldType:
    return FieldType(deque[inner.annotation], st.lists(inner.values, max_size=3).map(deque))  # type: ignore[name-defined]


def optional(inner: FieldType) -> FieldType:
    """The same, or None."""
    return FieldType(Optional[inner.annotation], st.none() | inner.values)  # noqa: UP045


def _dict(key: FieldType, inner: FieldType) -> FieldType:
    values = st.dictionaries(key.values, inner.values, max_size=3)
    return FieldType(dict[key.annotation, inner.annotation], values)  # type: ignore[name-defined]


def _boxed(inner: FieldType) -> FieldType:
    model = Boxed[inner.annotation]  # type: ignore[name-defined]
    return FieldType(model, st.builds(model, content=inner.values, since=in_utc))


def _set(inner: FieldType) -> FieldType:
    return FieldType(set[inner.annotation], st.sets(inner.values, max_size=3))  # type: ignore[name-defined]


def _frozen(inner: FieldType) -> FieldType:
    return FieldType(frozenset[inner.annotation], st.frozensets(inner.values, max_size=3))  # type: ignore[name-defined]


KEYED = [_dict(key, FieldType(int, st.integers())) for key in KEYS]


def _nested(simple: list[FieldType]) -> st.SearchStrategy[FieldType]:
    return st.recursive(
        st.sampled_from(simple),
        lambda inner: st.one_of(
            inner.map(_list),
            inner.map(_tuple),
            inner.map(_deque),
            inner.map(optional),
            inner.map(_boxed),
            st.sampled_from(HASHABLE).map(_set),
            st.sampled_from(HASHABLE).map(_frozen),
            st.builds(_dict, st.sampled_from(KEYS), inner),
        ),
        max_leaves=3,
    )


field_types = _nested([*SIMPLE, ZONED])
"""Any type of field, however deep."""

row_types = _nested(SIMPLE)
"""Any that a view may have."""
