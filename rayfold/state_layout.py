"""The table layout of a state-stored aggregate: fields become columns, lists become tables.

    class Address(Message):               customer: _id, _version, name, billing_street, …
        street: str                       customer_addresses: _id, _1, street
    class State(Message):
        name: str
        billing: Address
        addresses: tuple[Address, ...]

A scalar is a column. The fields of a nested model are columns of the same table, prefixed with the
name of the model's field; if the model may be None, a column with the name of its field says
whether it is there. A list, tuple, set or dictionary is a table of its own, with a row for each
item, in order. Other types are refused unless the author says `AsJson`. Pure: no SQL is run here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rayfold.column_hints import AsJson, RenamedFrom, RowsOf
from rayfold.columns import SYSTEM_COLUMNS, Column, JsonAdapter, column_of
from rayfold.keys import key_text, scalar_of

LONGEST_NAME = 63
"""Postgres truncates names beyond this many bytes."""

DEEPEST = 4
"""The most levels of nested lists, and of a model that contains itself."""

ITEM = "value"
"""The column for items that are scalars."""

KEY = "key"
"""The column for the keys of a dictionary."""


@dataclass(frozen=True)
class Place:
    """A field that is a column: at `path` in its table's model."""

    path: tuple[str, ...]
    column: Column
    nullable: bool
    formers: tuple[str, ...] = ()
    """Earlier names of the column, since the field or a model around it was renamed."""
    default: Any = PydanticUndefined
    """The value for rows that were written before the field existed; undefined: there is none."""
    marks: bool = False
    """Whether the column says that a nested model is not None."""

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.field


@dataclass(frozen=True)
class Nested:
    """A field that is a model, whose fields are columns of the table that it is in."""

    field: str
    model: type[BaseModel]
    parts: tuple[Part, ...]
    marker: Place | None
    """The column that says whether the model is there, if it may be None."""


@dataclass(frozen=True)
class Items:
    """A field that is a collection, whose items are rows of a table of their own."""

    field: str
    build: Callable[[Any], Any]
    """Makes the collection from a list of items, or of pairs if it has keys."""
    in_order: Callable[[Any], list[Any]]
    """Makes a list from the collection, again of pairs if it has keys."""
    key: Place | None
    scalar: Place | None
    model: type[BaseModel] | None
    parts: tuple[Part, ...]
    table: Table


Part = Place | Nested | Items


@dataclass(frozen=True)
class Table:
    """A table and its columns. Its keys are `_id` and an index for each list that it is within."""

    name: str
    depth: int
    formers: tuple[str, ...] = ()
    """Earlier names of the table."""
    places: list[Place] = field(default_factory=list)
    """The columns other than the keys, in their order."""

    @property
    def key(self) -> list[str]:
        """The columns of the primary key."""
        return ["_id", *(f"_{number + 1}" for number in range(self.depth))]


@dataclass(frozen=True)
class Layout:
    """The tables of one aggregate: the root table first, then its lists, outer before inner."""

    model: type[BaseModel]
    parts: tuple[Part, ...]
    tables: tuple[Table, ...]
    mistakes: tuple[str, ...]

    @property
    def root(self) -> Table:
        """The table with a row for each aggregate."""
        return self.tables[0]

    def described(self) -> dict[str, dict[str, list[Any]]]:
        """Return the tables as plain JSON: by name, each column's type and whether it may be null.

        `rayfold migrate` compares it with a recorded one, so its form must not change.
        """
        return {
            table.name: {each.name: [each.column.sql_type, each.nullable] for each in table.places}
            for table in self.tables
        }


@cache
def layout_of(category: str, model: type[BaseModel]) -> Layout:
    """Return the table layout of the state of an aggregate of that category."""
    making = _Making()
    root = making.table(category, 0)
    parts = tuple(making.parts(model, _HERE, root, model.__qualname__, nullable=False, deep=0))
    for table in making.tables:
        making.check_names(table)
    return Layout(model, parts, tuple(making.tables), tuple(dict.fromkeys(making.mistakes)))


@dataclass(frozen=True)
class _At:
    """The path of a field in its table's model, now and under earlier names."""

    paths: tuple[tuple[str, ...], ...]
    """The first is the present one."""

    @property
    def path(self) -> tuple[str, ...]:
        return self.paths[0]

    def field(self, name: str, renamed: RenamedFrom | None) -> _At:
        names = (name,) if renamed is None else (name, renamed.name)
        return _At(tuple((*path, each) for path in self.paths for each in names))

    @property
    def formers(self) -> tuple[str, ...]:
        now, *before = ("_".join(path) for path in self.paths)
        return tuple(each for each in before if each != now)


_HERE = _At(((),))


class _Making:
    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.mistakes: list[str] = []

    def table(self, name: str, depth: int, formers: tuple[str, ...] = ()) -> Table:
        made = Table(name, depth, formers)
        self.tables.append(made)
        return made

    def check_names(self, table: Table) -> None:
        names: set[str] = set()
        for place in table.places:
            if place.name in names:
                self.mistakes.append(
                    f"the table {table.name!r} has two columns {place.name!r}: rename a field"
                )
            if place.name in SYSTEM_COLUMNS:
                self.mistakes.append(
                    f"the table {table.name!r} cannot have a column {place.name!r}, as Postgres has"
                    " a system column of that name: rename a field"
                )
            names.add(place.name)
        for name in (table.name, *names):
            if len(name.encode()) > LONGEST_NAME:
                self.mistakes.append(
                    f"the name {name!r} is too long for Postgres: {LONGEST_NAME} bytes at most"
                )

    def parts(
        self,
        model: type[BaseModel],
        around: _At,
        table: Table,
        where: str,
        *,
        nullable: bool,
        deep: int,
    ) -> Iterator[Part]:
        if deep > DEEPEST:
            self.mistakes.append(f"{where} holds itself, or models more than {DEEPEST} deep")
            return
        for name, info in model.model_fields.items():
            part = self.part(
                name, info, around, table, f"{where}.{name}", nullable=nullable, deep=deep
            )
            if part is not None:
                yield part

    def part(
        self,
        name: str,
        info: FieldInfo,
        around: _At,
        table: Table,
        where: str,
        *,
        nullable: bool,
        deep: int,
    ) -> Part | None:
        annotation, metadata, optional = _plain(info)
        hints = {type(each): each for each in metadata}
        at = around.field(name, hints.get(RenamedFrom))
        column_name = "_".join(at.path)
        as_json = hints.get(AsJson)
        if as_json is not None:
            if not as_json.reason.strip():
                self.mistakes.append(f"{where}: AsJson needs a reason")
            column = Column(column_name, "json", None, JsonAdapter(info))
            return self._place(table, at, column, optional, nullable, info)
        rows_of = hints.get(RowsOf)
        if rows_of is None and scalar_of(info) is not None:
            column = column_of(column_name, info)
            return self._place(table, at, column, optional, nullable, info)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            marker = None
            if optional:
                column = Column(column_name, "boolean", None, None)
                marker = Place(at.path, column, nullable, at.formers, False, marks=True)
                table.places.append(marker)
            inner = tuple(
                self.parts(
                    annotation,
                    at,
                    table,
                    where,
                    nullable=nullable or optional,
                    deep=deep + 1,
                )
            )
            return Nested(name, annotation, inner, marker)
        found = _collection(annotation, rows_of)
        if found is None or optional:
            what = "an optional collection" if found is not None else f"a {_told(annotation)}"
            self.mistakes.append(
                f"{where} is {what}, which fits neither a column nor a table: make it a scalar, a"
                " model, or a list, tuple, set or dictionary of these, or say"
                ' Annotated[…, AsJson("why")]'
            )
            return None
        return self._items(name, found, at, table, where, deep)

    def _items(
        self,
        name: str,
        found: _Collection,
        at: _At,
        around: Table,
        where: str,
        deep: int,
    ) -> Items | None:
        now, *formers = (
            "_".join((table, *path))
            for table in (around.name, *around.formers)
            for path in at.paths
        )
        table = self.table(now, around.depth + 1, tuple(formers))
        if table.depth > DEEPEST:
            self.mistakes.append(f"{where} is a list more than {DEEPEST} lists deep")
            return None
        key = None
        if found.key is not None:
            info = FieldInfo.from_annotation(found.key)
            if scalar_of(info) is None:
                self.mistakes.append(f"{where} has keys that are not scalars")
                return None
            key = Place((KEY,), column_of(KEY, info), False)
            table.places.append(key)
        info = FieldInfo.from_annotation(found.item)
        item, _, optional = _plain(info)
        if scalar_of(info) is not None:
            scalar = Place((ITEM,), column_of(ITEM, info), optional)
            table.places.append(scalar)
            return Items(name, found.build, found.in_order, key, scalar, None, (), table)
        if optional or not (isinstance(item, type) and issubclass(item, BaseModel)):
            self.mistakes.append(
                f"{where} holds items that are neither scalars nor models: say"
                ' Annotated[…, AsJson("why")]'
            )
            return None
        parts = tuple(self.parts(item, _HERE, table, where, nullable=False, deep=deep + 1))
        return Items(name, found.build, found.in_order, key, None, item, parts, table)

    @staticmethod
    def _place(
        table: Table,
        at: _At,
        column: Column,
        optional: bool,
        nullable: bool,
        info: FieldInfo,
    ) -> Place:
        default = info.default
        if info.default_factory is not None and not info.default_factory_takes_validated_data:
            default = info.default_factory()  # type: ignore[call-arg]
        if nullable:
            default = None
        place = Place(at.path, column, optional or nullable, at.formers, default)
        table.places.append(place)
        return place


@dataclass(frozen=True)
class _Collection:
    item: Any
    key: Any
    build: Callable[[Any], Any]
    in_order: Callable[[Any], list[Any]]


def _collection(annotation: Any, rows_of: RowsOf | None) -> _Collection | None:
    if rows_of is not None:
        build = annotation if callable(annotation) else list
        return _Collection(rows_of.item, None, build, list)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list and arguments:
        return _Collection(arguments[0], None, list, list)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return _Collection(arguments[0], None, tuple, list)
    if origin in (set, frozenset) and arguments:
        # Sorted: a set has no order but rows do, and equal sets shall have equal rows.
        return _Collection(arguments[0], None, origin, lambda value: sorted(value, key=key_text))
    if origin is dict and len(arguments) == 2:
        return _Collection(arguments[1], arguments[0], dict, lambda value: list(value.items()))
    return None


def _plain(info: FieldInfo) -> tuple[Any, list[Any], bool]:
    """Return the bare type of a field, its metadata, and whether it may be None."""
    metadata, optional = list(info.metadata), False
    annotation = info.annotation
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            metadata += more
        elif origin in (Union, UnionType):
            members = [each for each in get_args(annotation) if each is not NoneType]
            optional = optional or len(members) < len(get_args(annotation))
            if len(members) != 1:
                return annotation, metadata, optional
            annotation = members[0]
        else:
            return annotation, metadata, optional


def _told(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or str(annotation).replace("typing.", "")
