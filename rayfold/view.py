"""Views: keyed folds over events, which work the same in memory, Postgres, Redis and a test.

    class StockLevel(View, name="stock-level", key="sku", stores=("memory", "postgres")):
        sku: str
        on_hand: int = 0

        @staticmethod
        @on(StockReceived)
        def received(row: StockLevel, event: StockReceived) -> StockLevel:
            return row.replace(on_hand=row.on_hand + event.quantity)

A row begins with an event that a `@starts` fold handles; if every field except the key has a
default, any event begins it. Events for a row that has not begun are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn, TypeAlias, get_args

from rayfold.columns import SYSTEM_COLUMNS, plain
from rayfold.core_schemas import has_functions, has_serializers, holds
from rayfold.declarations import misnamed, too_long
from rayfold.failure import OnPoison
from rayfold.field_defaults import mistakes_of_defaults
from rayfold.field_types import mistakes_of_fields
from rayfold.fingerprint import fingerprint_of, fingerprint_of_model
from rayfold.folds import Fold, folds_of, mistakes_of_folds, yielding
from rayfold.keys import key_text, scalar_of
from rayfold.messages import KEBAB, Event, Message
from rayfold.recorded import RecordedEvent
from rayfold.stores import known_stores
from rayfold.tenants import MARK, TENANT, NoTenant, tenant_of, tenant_of_stream, within
from rayfold.unchanged import fresh

Store: TypeAlias = str
"""The name of a store: see `rayfold.stores`."""
Delivery = Literal["ordered", "competing"]

MAX_NAME = 48
"""Bytes of a view's name: Postgres allows 63, and the generation's number is appended to it."""

MAX_FIELD = 63

OURS = ("rayfold-", "pg-")
"""Prefixes of names in Postgres that a domain may not use."""

_RESERVED = {
    "revision": "every row's document has a `revision` of its own",
    **dict.fromkeys(SYSTEM_COLUMNS, "Postgres has a system column of that name"),
}


class VersionedRow(NamedTuple):
    """A row with its place in the log.

    `revision` is the revision of the last folded event in its stream; where the row follows
    a single stream, it identifies the row's version. `position` is the same event's place in
    `$all`, which guards against folding an event twice. `started` is the position at which
    the row began; it never changes, so pages are ordered by it.
    """

    row: View
    revision: int
    position: int
    started: int


class RowChange(NamedTuple):
    """An event to fold onto a row. `value` is the key as the event has it.

    `also` are further events that upcasters made of the same record, for the same row: either
    all of them are folded, or none.
    """

    key: str
    value: Any
    event: RecordedEvent
    also: tuple[Event, ...] = ()


_SEVERAL = (list, tuple, set, frozenset)


@dataclass(frozen=True, eq=False)
class ViewDefinition:
    """What a view class declares; see `View` for the keywords. `model` is the row's model."""

    model: type[View]
    name: str
    key: str
    stores: tuple[Store, ...]
    indexes: tuple[str, ...]
    version: int
    on_poison: OnPoison
    delivery: Delivery
    upcasters: str = ""
    """Fingerprint of the upcasters of the view's events; see `Registry`."""
    tenants: bool = False
    """Whether each row belongs to a tenant (see `rayfold.tenants`); set by the registry."""

    def read_by(self, upcasters: str) -> None:
        """Set the upcasters' fingerprint, once the whole domain is known."""
        object.__setattr__(self, "upcasters", upcasters)
        self.__dict__.pop("fingerprint", None)

    @cached_property
    def folds(self) -> dict[type[Event], Fold]:
        """The fold of each event type."""
        return {fold.event_type: fold for _, fold in folds_of(self.model)}

    @cached_property
    def begins_anywhere(self) -> bool:
        """Whether any event may begin a row."""
        return not {*self._required} - {self.key}

    @property
    def _required(self) -> list[str]:
        return [field for field, info in self.model.model_fields.items() if info.is_required()]

    @cached_property
    def fingerprint(self) -> str:
        """Text that changes when the rows may differ: with fields, folds, keys and upcasters."""
        folds = sorted(self.folds.values(), key=lambda fold: fold.event_type.__rayfold__.name)
        declared = (
            self.version,
            self.key,
            sorted(self.indexes),
            self.delivery,
            [(fold.event_type.__rayfold__.name, fold.starts) for fold in folds],
            fingerprint_of_model(self.model),
        )
        code = fingerprint_of(
            *(each for fold in folds for each in (fold.apply, fold.key_of, fold.event_type))
        )
        return f"{declared} {code}{self.upcasters}{' tenants' if self.tenants else ''}"

    def keys_of(self, event: Event) -> Sequence[Any]:
        """Return the keys of the rows that `event` concerns; empty if it concerns none."""
        fold = self.folds.get(type(event))
        if fold is None:
            return ()
        key = fold.key_of(event) if fold.key_of else getattr(event, self.key)
        if key is None:
            return ()
        if isinstance(key, _SEVERAL):
            return [each for each in key if each is not None]
        return (key,)

    @cached_property
    def lists(self) -> tuple[str, ...]:
        """What stores list rows by: the view's indexes, and the tenant where rows have one."""
        return (*self.indexes, TENANT) if self.tenants else self.indexes

    def listed(self, key: str, texts: Sequence[str | None]) -> tuple[str | None, ...]:
        """Return the text under which each of `lists` has the row; None for a list without it.

        `texts` are the texts of the row's indexes. Each tenant's rows have lists of their own.
        """
        if not self.tenants:
            return tuple(texts)
        tenant = tenant_of(key)
        return (*[None if each is None else within(tenant, each) for each in texts], tenant)

    def sought(self, filters: Mapping[str, str]) -> Mapping[str, str]:
        """Return the lists that a query's `filters` select, each with the text to look up there.

        Raises:
            NoTenant: rows belong to tenants and the filters name none: no query may see all rows.
        """
        if not self.tenants:
            return filters
        fields = {**filters}
        tenant = fields.pop(TENANT, "")
        if not tenant:
            raise NoTenant(f"{self.name!r} is asked for the rows of no tenant")
        return {field: within(tenant, text) for field, text in fields.items()} or {TENANT: tenant}

    def asked(self, lists: Mapping[str, str]) -> dict[str, str]:
        """Return the filters that `sought` turns into these lists."""
        if not self.tenants:
            return {**lists}
        tenant = ""
        fields: dict[str, str] = {}
        for field, text in lists.items():
            tenant, _, fields[field] = text.partition(MARK)
        return {**fields, TENANT: tenant}

    def prefix_of(self, stream: str) -> str:
        """Return the common prefix of the keys of all rows that a stream concerns; often empty.

        Raises:
            NoTenant: rows belong to tenants, but the stream does not.
        """
        return within(tenant_of_stream(stream), "") if self.tenants else ""

    def changes_of(self, events: Sequence[RecordedEvent]) -> list[RowChange]:
        """Return the row changes of a record; `events` are its events after upcasting.

        Raises:
            ValueError: a key is empty, or has no tenant where rows belong to tenants.
            Exception: whatever the author's code raises.
        """
        rows: dict[str, RowChange] = {}
        for event in events:
            values = {key_text(value): value for value in self.keys_of(event.event)}
            prefix = self.prefix_of(event.stream) if values else ""
            for text, value in values.items():
                if not text:
                    raise ValueError("a row's key is empty")
                key = prefix + text
                first = rows.get(key)
                rows[key] = (
                    RowChange(key, value, event)
                    if first is None
                    else first._replace(also=(*first.also, event.event))
                )
        return list(rows.values())

    def fold(
        self,
        before: VersionedRow | None,
        recorded: RecordedEvent,
        key: Any,
        also: Sequence[Event] = (),
    ) -> VersionedRow | None:
        """Return the row after the event, or `before` itself if that already has the event.

        `before` is the row with that `key`, or None. The result is None if there is no row
        afterwards. `also` are further events of the same record, folded next: an upcaster may
        have made several events of one.

        Raises:
            TypeError: a fold returned neither a row of this view nor None.
            ValueError: the new row lacks a field, has another key, or holds NaN or infinity.
            Exception: whatever the author's code raises.
        """
        event, _, revision, position, _ = recorded
        if before is None:
            row, started = self._after(None, event, key), position
        elif before.position >= position:
            return before
        else:
            # On a copy: a fold that changes a list in its row and then raises changes nothing.
            row, started = self._after(fresh(before.row), event, key), before.started
        for each in also:
            row = self._after(row, each, key)
        if row is None:
            return None
        if len(row.__dict__) < len(self._fields):  # `model_construct` takes what it is given
            missing = self._fields - row.__dict__.keys()
            raise ValueError(f"the fold returned a row without {', '.join(sorted(missing))}")
        found = getattr(row, self.key)
        if found != key and (found is None or key_text(found) != key_text(key)):
            raise ValueError(
                f"the fold returned a row of the key {found!r}, where {self.key} is {key!r}"
            )
        if self._is_inexact:
            _refuse_not_finite(row)
            row = self._plainly_written(row)
        if self._is_made_by_functions:
            _refuse_what_is_read_otherwise(row)
        return VersionedRow(row, revision, position, started)

    def _after(self, row: View | None, event: Event, key: Any) -> View | None:
        fold = self.folds[type(event)]
        if fold.starts:
            after = fold.apply(event, key) if fold.wants_key else fold.apply(event)
        elif row is not None:
            after = fold.apply(row, event)
        elif self.begins_anywhere:
            after = fold.apply(self.model(**{self.key: key}), event)
        else:
            return None
        if after is not None and not isinstance(after, self.model):
            raise TypeError(
                f"a fold returned a {type(after).__qualname__}, not a row of {self.name!r}"
            )
        return after

    def _plainly_written(self, row: View) -> View:
        """Return the row with decimals as every store gives them back."""
        changes = {
            field: plain(value)
            for field in self._decimals
            if isinstance(value := getattr(row, field), Decimal)
        }
        return row.replace(**changes) if changes else row

    @cached_property
    def _fields(self) -> frozenset[str]:
        return frozenset(self.model.model_fields)

    @cached_property
    def _decimals(self) -> list[str]:
        scalars = {field: scalar_of(info) for field, info in self.model.model_fields.items()}
        return [field for field, scalar in scalars.items() if scalar and scalar.kind is Decimal]

    @cached_property
    def _is_inexact(self) -> bool:
        return holds(self.model, "float", "decimal", "any")

    @cached_property
    def _is_made_by_functions(self) -> bool:
        # A value that a serializer masks is not read back: stores keep the fields themselves.
        return has_functions(self.model) and not has_serializers(self.model)

    def mistakes(self) -> list[str]:
        """Return the mistakes in the declaration, one sentence each."""
        cls, name = self.model, self.model.__qualname__
        found = misnamed(cls, self.name, KEBAB, "kebab-case, like 'order-details'")
        found += too_long(cls, "name", self.name, MAX_NAME)
        if self.name.startswith(OURS) or self.name.endswith("-pkey"):
            found.append(f"{name}: {self.name!r} is taken in Postgres: choose another name")
        found += mistakes_of_fields(cls, utc_only=True) or mistakes_of_defaults(cls)
        fields = cls.model_fields
        for field in fields:
            found += too_long(cls, "field", field, MAX_FIELD)
            if field.lower() in _RESERVED:
                found.append(f"{name}.{field} needs another name: {_RESERVED[field.lower()]}")
        if not self.key:
            found.append(f'{name} needs key="…", the field that identifies a row')
        for what, field in (("key", self.key), *(("index", field) for field in self.indexes)):
            if field and field not in fields:
                found.append(f"{name} has no field {field!r} for its {what}")
            elif field and scalar_of(fields[field]) is None:
                found.append(f"{name}.{field} cannot be its {what}: not a scalar")
        found += self._mistakes_of_settings()
        found += mistakes_of_folds(cls)
        for member, fold in folds_of(cls):
            found += yielding(f"{name}.{member}", fold.apply, "the row")
        if not self.folds:
            found.append(f"{name} folds no event: mark its functions with @on or @starts")
        elif self.key and not self._begins():
            lacking = ", ".join(each for each in self._required if each != self.key)
            told = f"{name}: no row ever begins; mark a fold with @starts"
            found.append(f"{told}, or give {lacking} a default")
        return found + self._mistakes_of_keys()

    def _begins(self) -> bool:
        return self.begins_anywhere or any(fold.starts for fold in self.folds.values())

    def _mistakes_of_keys(self) -> list[str]:
        if self.key not in self.model.model_fields:
            return []
        return [
            f"{event.__qualname__} has no field {self.key!r}, the key of "
            f"{self.model.__qualname__}: give its fold key=…"
            for event, fold in self.folds.items()
            if isinstance(event, type) and fold.key_of is None and not _has(event, self.key)
        ]

    def _mistakes_of_settings(self) -> list[str]:
        name, found = self.model.__qualname__, []
        known = known_stores()
        if not self.stores or any(store not in known for store in self.stores):
            found.append(f"{name}: stores are {known}, at least one; got {self.stores!r}")
        if len({*self.stores}) < len(self.stores):
            found.append(f"{name}: a store is named twice: {self.stores!r}")
        if self.delivery not in get_args(Delivery):
            found.append(f"{name}: delivery is one of {get_args(Delivery)}, not {self.delivery!r}")
        if self.on_poison not in (OnPoison.PARK, OnPoison.STOP):
            found.append(f'{name}: on_poison is "park" or "stop", not {str(self.on_poison)!r}')
        competing = self.delivery == "competing"
        if competing and (self.stores != ("postgres",) or self.on_poison != OnPoison.PARK):
            found.append(f"{name}: competing consumers need stores=('postgres',) and to park")
        return found


class View(Message):
    """A read model. A fold returns the row after an event (`row.replace(…)` or a new row), or
    None to delete the row. It gets a row of its own: it may append to a list in place, and if
    it raises half-way, nothing has changed. Class keywords:

    - `key`: the field that identifies a row.
    - `stores`: where rows are kept: `memory`, `postgres`, `redis`, or a store from a package
      (see `rayfold.stores`). The first of them that this stack has answers queries.
    - `indexes`: fields that queries may filter by.
    - `version`: raise it when the meaning of a fold changes in code that Rayfold does not see,
      in a library for instance; changes in the domain's own package are noticed without it.
    - `on_poison`: what happens when an event cannot be folded: "park" its row, while all other
      rows go on, or "stop" the view.
    - `delivery`: "ordered" folds events in the log's order. "competing" shares them among many
      consumers. It is for a view that is kept in Postgres only and whose rows need no order
      across streams: each row follows one stream, or its folds give the same result in whatever
      order streams interleave. Both keep the order of each stream and fold each event once.
    """

    __rayfold__: ClassVar[ViewDefinition]

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        key: str = "",
        stores: tuple[Store, ...] = ("memory", "postgres"),
        indexes: tuple[str, ...] = (),
        version: int = 1,
        on_poison: OnPoison | Literal["park", "stop"] = OnPoison.PARK,
        delivery: Delivery = "ordered",
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__rayfold__ = ViewDefinition(
            cls, name, key, _all_of(stores), _all_of(indexes), version, policy(on_poison), delivery
        )


def _all_of(names: tuple[str, ...] | str) -> tuple[str, ...]:
    """Return the names as a tuple; a plain text, `("sku")` without a comma, is one name."""
    return (names,) if isinstance(names, str) else tuple(names)


def _has(event: Any, attribute: str) -> bool:
    """Return whether a class marked as an event has the attribute, as a field or computed."""
    return attribute in getattr(event, "model_fields", ()) or hasattr(event, attribute)


def policy(given: OnPoison | str) -> OnPoison:
    """Return the policy of that name; an unknown name stays text, which the registry refuses."""
    return OnPoison(given) if given in list(OnPoison) else given  # type: ignore[return-value]


def document(versioned: VersionedRow) -> bytes:
    """Return the row as JSON, including its `revision`."""
    return b'%b,"revision":%d}' % (
        versioned.row.__pydantic_serializer__.to_json(versioned.row)[:-1],
        versioned.revision,
    )


def _refuse_not_finite(row: View) -> None:
    data = row.__pydantic_serializer__.to_json(row)
    if b"NaN" in data or b"Infinity" in data:
        json.loads(data, parse_constant=_refuse_constant)


def _refuse_what_is_read_otherwise(row: View) -> None:
    data = row.__pydantic_serializer__.to_json(row)
    back = row.__pydantic_validator__.validate_json(data, extra="ignore")
    for field in type(row).model_fields:
        if getattr(back, field) != getattr(row, field):
            raise ValueError(f"{field!r} does not come back as it was: a validator may run twice")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"a row cannot hold {constant}: JSON has no such number")
