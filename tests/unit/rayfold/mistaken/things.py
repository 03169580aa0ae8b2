"""Messages and aggregates, each with something wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, Json, PrivateAttr, SecretStr
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from rayfold import (
    Aggregate,
    Command,
    Event,
    IntegrationEvent,
    Message,
    Route,
    UtcDatetime,
    View,
    on,
    upcaster,
)


class NotKebab(Command, name="NotKebab"):
    thing_id: str


class LacksId(Command, name="lacks-id"):
    label: str


class ListId(Command, name="list-id"):
    thing_id: list[str]


class PerhapsId(Command, name="perhaps-id"):
    thing_id: Annotated[str | None, Field(max_length=9)] = None


class Twice(Command, name="twice"):
    thing_id: str


class TwiceAgain(Command, name="twice"):
    thing_id: str


class lower(Event, name="lower"):
    thing_id: str


class NoZone(Event, name="NoZone"):
    thing_id: str
    at: datetime


class OfItsOwn(Event, name="OfItsOwn"):
    thing_id: str
    at: datetime
    within: tuple[OfItsOwn, ...] = ()


class Uncallable(Event, name="Uncallable"):
    thing_id: str
    call: Callable[[], None]


class LookAlike(Event, name="LookAlike"):
    thing_id: str
    when: list[date | str]
    numbers: list[int] | tuple[int, ...]


class LeftOut(Event, name="LeftOut"):
    thing_id: str
    secret: str = Field(exclude=True)


class Inner(BaseModel):
    hidden: int = Field(default=1, exclude=True)


class Aliased(BaseModel):
    number: int = Field(default=1, alias="n")


class Bag(BaseModel):
    tags: frozenset[str] = frozenset()


class Place(Enum):
    CENTRE = (0, 0)


class Pair(NamedTuple):
    left: int
    right: int


@dataclass(config=ConfigDict(frozen=True))
class AliasedData:
    number: Annotated[int, Field(alias="n")] = 1


class AliasedDict(TypedDict):
    __pydantic_config__ = ConfigDict(serialize_by_alias=True)  # type: ignore[misc]
    number: Annotated[int, Field(alias="n")]


class Open(BaseModel, extra="allow"):
    number: int = 1


class Lossy(Event, name="Lossy", extra="allow", frozen=False):
    thing_id: str
    password: SecretStr = SecretStr("")
    parsed: Json[int] = 0
    inner: Inner = Inner()
    bag: Bag = Bag()
    aliased: Aliased = Aliased()
    by_pair: dict[tuple[int, int] | Literal["all"], int]
    by_none: dict[int | None, int]
    by_names: dict[Pair, int]
    by_either: dict[int | str, int]
    by_number: dict[Literal[1, 2], int]
    place: Place
    aliased_data: AliasedData
    aliased_dict: AliasedDict
    open: Open


class Within(Message):
    note: str = None  # type: ignore[assignment]


class Untaken(Command, name="untaken"):
    thing_id: str
    price: Decimal = 0  # type: ignore[assignment]
    tags: Sequence[str] = ()
    least: Annotated[int, Field(ge=1)] = 0
    inner: Within | None = None


class Replaced(Event, name="Replaced"):
    thing_id: str
    least: Annotated[int, Field(ge=1)] = 0  # it may be there for old events alone
    tags: Sequence[str] = ()


class Random(View, name="random", key="thing_id"):
    thing_id: str
    key: UUID = Field(default_factory=uuid4)
    at: UtcDatetime = Field(default_factory=lambda: datetime.now(UTC))
    tags: list[str] = Field(default_factory=list)
    _seen: int = PrivateAttr(0)

    @staticmethod
    @on(NoZone)
    def folded(row: Random, event: NoZone) -> Random:
        return row


class Versioned(Event, name="Versioned", version=3):
    thing_id: str


class VersionZero(Event, name="VersionZero", version=0):
    thing_id: str


class Told(IntegrationEvent, name="told"):
    thing_id: str


class State(Message):
    label: str = ""


class Thing(
    Aggregate[
        State,
        NotKebab | LacksId | ListId | PerhapsId | Twice | TwiceAgain | Untaken,
        lower
        | NoZone
        | OfItsOwn
        | Uncallable
        | LookAlike
        | LeftOut
        | Lossy
        | Replaced
        | Random
        | Versioned
        | VersionZero
        | Told,
    ],
    category="two-words",
    id_field="thing_id",
    initial=State(),
):
    @staticmethod
    def decide(state: Any, command: Any) -> Iterable[Any]:
        return []

    @staticmethod
    def evolve(state: Any, event: Any) -> Any:
        return state


class Snapshots(
    Aggregate[State, Twice, Versioned], category="snapshot", id_field="", initial=State()
):
    """Its category is ours, it has no id, and it decides nothing."""


class NoTypes(Aggregate, category="untyped", id_field="thing_id"):  # type: ignore[type-arg]
    @staticmethod
    def decide(state: Any, command: Any) -> Iterable[Any]:
        return []

    @staticmethod
    def evolve(state: Any, event: Any) -> Any:
        return state


@upcaster("Versioned", from_version=3)
def for_nothing(data: dict[str, Any]) -> dict[str, Any]:
    return data


@upcaster("Versioned", from_version=1)
def into_a_gap(data: dict[str, Any]) -> dict[str, Any]:
    return data


@upcaster("Gone", from_version=1)
def one(data: dict[str, Any]) -> None:
    return None


@upcaster("Gone", from_version=1)
def another(data: dict[str, Any]) -> None:
    return None


ROUTES = [
    Route("POST", "/things/relabel", Twice),
    Route("POST", "/things/{what}/again", TwiceAgain),
    Route("POST", "/commands/{thing_id}", Twice),
    Route("GET", "/things/{thing_id}", Twice),
    Route("POST", "things", Twice),
]
