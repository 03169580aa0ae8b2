"""A view's rows as rows of a Postgres table: typed columns, and back without loss."""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime
from typing import Any, NamedTuple, get_args
from uuid import UUID

from pydantic import TypeAdapter

from rayfold import VersionedRow, View

_SCHEMA_VERSION = 1
"""Of the way rows are stored; raising it builds every table anew."""

_PLAIN: list[tuple[type, str]] = [
    (UUID, "uuid"),
    (bool, "boolean"),
    (int, "bigint"),
    (float, "double precision"),
    (datetime, "timestamptz"),
    (date, "date"),
    (str, "text"),
]


class Column(NamedTuple):
    """A field's column. `adapter` encodes what has no type of its own, as JSON.

    `kind` is the field's type, None left aside, where there is one in SQL too.
    """

    field: str
    sql_type: str
    kind: type
    adapter: TypeAdapter[Any] | None

    @property
    def quoted(self) -> str:
        """The column's name in SQL."""
        return f'"{self.field}"'


def columns_of(view: type[View]) -> list[Column]:
    """A column for each field, in the order of the fields."""
    return [_column(name, info.annotation) for name, info in view.model_fields.items()]


def _column(field: str, annotation: Any) -> Column:
    members = [member for member in get_args(annotation) if member is not type(None)]
    kind = members[0] if len(members) == 1 and type(None) in get_args(annotation) else annotation
    if isinstance(kind, type):
        for python_type, sql_type in _PLAIN:
            if issubclass(kind, python_type):
                return Column(field, sql_type, kind, None)
    return Column(field, "json", object, TypeAdapter(annotation))


def fingerprint_of(view: type[View]) -> str:
    """Changes with whatever makes a table useless: fields, indexes, folds' version, delivery."""
    schema = json.dumps(view.model_json_schema(), sort_keys=True)
    folds = sorted(event.name for event in view.folds)
    text = f"{_SCHEMA_VERSION} {view.version} {view.key} {view.indexes} {folds} {schema}"
    if view.delivery == "competing":  # needs its streams' revisions, which others do not keep
        text += " competing"
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


class RowCodec:
    """Entries to parameters, and records to entries."""

    def __init__(self, view: type[View]) -> None:
        self.view = view
        self.columns = columns_of(view)

    def encode(self, key: str, entry: VersionedRow) -> tuple[Any, ...]:
        """The key, the columns' values, then revision, position and started."""
        row = entry.row
        values = [
            getattr(row, column.field)
            if column.adapter is None
            else column.adapter.serializer.to_json(getattr(row, column.field)).decode()
            for column in self.columns
        ]
        return (key, *values, entry.revision, entry.position, entry.started)

    def decode(self, record: Any) -> VersionedRow:
        """The entry that a record of `select_list` holds."""
        fields: dict[str, Any] = {}
        for column in self.columns:
            value = record[column.field]
            if column.adapter is not None and value is not None:
                value = column.adapter.validate_json(value)
            fields[column.field] = value
        row = self.view.model_validate(fields)
        return VersionedRow(row, record["_revision"], record["_position"], record["_started"])

    @property
    def select_list(self) -> str:
        """What a SELECT must ask for, of a table named t."""
        names = [column.quoted for column in self.columns]
        names += ["_key", "_revision", "_position", "_started"]
        return ", ".join(f"t.{name}" for name in names)
