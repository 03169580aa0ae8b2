"""Views: a keyed fold over events, the same in memory, in Postgres and in a test.

    class StockLevel(View, name="stock-level", key="sku", stores=("memory", "postgres")):
        sku: str
        on_hand: int = 0

        @on(StockReceived)
        def received(self, event: StockReceived) -> Self:
            return self.replace(on_hand=self.on_hand + event.quantity)

A row begins with an event of a `@starts` fold, or, when every field but the key has a
default, with any event. Events for a row that never began are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from rayfold.errors import DomainError
from rayfold.messages import KEBAB, Event, Message, checked_name
from rayfold.recorded import RecordedEvent

Store = Literal["memory", "postgres"]
OnPoison = Literal["park", "stop"]
Delivery = Literal["ordered", "competing"]
KeyOf = Callable[[Any], Any]
F = TypeVar("F", bound=Callable[..., Any])

_FOLDS = "__rayfold_folds__"


@dataclass(frozen=True)
class Fold:
    """How one event type changes a row: `(event) -> row`, or `(row, event) -> row or None`."""

    event_type: type[Event]
    key_of: KeyOf | None
    starts: bool
    apply: Callable[..., Any]


def starts(*event_types: type[Event], key: KeyOf | None = None) -> Callable[[F], F]:
    """Marks a function `(event) -> row` that begins a row (or begins it again).

    `key` takes the row's key from the event; by default the event's field of that name.
    """
    return _marked(event_types, key, starts=True)


def on(*event_types: type[Event], key: KeyOf | None = None) -> Callable[[F], F]:
    """Marks a method `(self, event) -> row` that folds an event; `None` deletes the row."""
    return _marked(event_types, key, starts=False)


def _marked(
    event_types: tuple[type[Event], ...], key: KeyOf | None, *, starts: bool
) -> Callable[[F], F]:
    def mark(function: F) -> F:
        folds = [Fold(event_type, key, starts, function) for event_type in event_types]
        setattr(function, _FOLDS, folds)
        return staticmethod(function) if starts else function  # type: ignore[return-value]

    return mark


def folds_of(cls: type) -> list[Fold]:
    """What the members of a class were marked with by `on` and `starts`."""
    return [
        fold
        for member in vars(cls).values()
        for fold in getattr(getattr(member, "__func__", member), _FOLDS, ())
    ]


class VersionedRow(NamedTuple):
    """A row with its place in the log.

    `revision` is that of the last event folded in, in its own stream: it identifies the
    row's version where the row follows a single stream. `position` is the same event's
    place in `$all`, and guards against applying an event twice. `started` is the
    position at which the row began: it never changes, so pages are cut by it.
    """

    row: View
    revision: int
    position: int
    started: int


class View(Message):
    """A read model. Class keywords:

    - `key`: the field that identifies a row.
    - `stores`: where it is kept; a query is answered by the first one that can.
    - `indexes`: fields that queries may filter by.
    - `version`: raise it when a fold changes meaning while the fields do not; changed
      fields are noticed without.
    - `on_poison`: what an event does that cannot be folded: "park" its own row, while all
      others go on, or "stop" the view.
    - `delivery`: "ordered" folds events in the log's order. "competing" has many consumers
      share them, for a view in Postgres alone whose rows need no order across streams: each
      row follows one stream, or its folds give the same in whatever order streams interleave.
      Every stream's own order is kept, and every event counts once, in both.
    """

    name: ClassVar[str] = ""
    key: ClassVar[str]
    stores: ClassVar[tuple[Store, ...]]
    indexes: ClassVar[tuple[str, ...]]
    version: ClassVar[int]
    on_poison: ClassVar[OnPoison]
    delivery: ClassVar[Delivery]
    folds: ClassVar[dict[type[Event], Fold]]
    begins_anywhere: ClassVar[bool]

    def __init_subclass__(
        cls,
        *,
        name: str,
        key: str,
        stores: tuple[Store, ...] = ("memory", "postgres"),
        indexes: tuple[str, ...] = (),
        version: int = 1,
        on_poison: OnPoison = "park",
        delivery: Delivery = "ordered",
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)  # see Command

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        name: str | None = None,
        key: str | None = None,
        stores: tuple[Store, ...] = ("memory", "postgres"),
        indexes: tuple[str, ...] = (),
        version: int = 1,
        on_poison: OnPoison = "park",
        delivery: Delivery = "ordered",
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.name = checked_name(cls, name, KEBAB, "kebab-case, like 'order-details'")
        for field in (key, *indexes):
            if field not in cls.model_fields:
                raise DomainError(f"{cls.__qualname__} has no field {field!r} for a key or index")
        cls.key = str(key)
        cls.stores = stores
        cls.indexes = indexes
        cls.version = version
        cls.on_poison = on_poison
        cls.delivery = delivery
        if delivery == "competing" and (stores != ("postgres",) or on_poison != "park"):
            raise DomainError(
                f"{cls.__qualname__}: competing consumers need stores=('postgres',) and to park"
            )
        cls.folds = {fold.event_type: fold for fold in folds_of(cls)}
        cls.begins_anywhere = all(
            not info.is_required() for field, info in cls.model_fields.items() if field != cls.key
        )

    @classmethod
    def key_of(cls, event: Event) -> Any | None:
        """The key of the row that `event` concerns; None when it concerns none."""
        fold = cls.folds.get(type(event))
        if fold is None:
            return None
        return fold.key_of(event) if fold.key_of else getattr(event, cls.key)

    @classmethod
    def fold(cls, entry: VersionedRow | None, recorded: RecordedEvent) -> VersionedRow | None:
        """The row after the event; the entry unchanged if it already has the event.

        `entry` is the row with the event's key, None where there is none. The answer is
        None when there is no row afterwards.
        """
        event, _, revision, position, _ = recorded
        if entry is not None and entry.position >= position:
            return entry
        fold = cls.folds[type(event)]
        if fold.starts:
            row = fold.apply(event)
        elif entry is not None:
            row = fold.apply(entry.row, event)
        elif cls.begins_anywhere:
            row = fold.apply(cls(**{cls.key: cls.key_of(event)}), event)
        else:
            return None
        if row is None:
            return None
        return VersionedRow(row, revision, position, position if entry is None else entry.started)


def document(entry: VersionedRow) -> bytes:
    """The row as JSON, with its `revision`."""
    return b'%b,"revision":%d}' % (
        entry.row.__pydantic_serializer__.to_json(entry.row)[:-1],
        entry.revision,
    )
