"""Converts a view's rows to rows of a Postgres table with typed columns, and back without loss."""

from __future__ import annotations

import hashlib
from typing import Any

from rayfold import VersionedRow, ViewDefinition
from rayfold.columns import Column, column_of

_LAYOUT = 2
"""The version of the storage format; raising it rebuilds every table."""


def columns_of(view: ViewDefinition) -> list[Column]:
    """Return a column for each field, in the order of the fields."""
    return [column_of(name, info) for name, info in view.model.model_fields.items()]


def fingerprint_of(view: ViewDefinition) -> str:
    """Return a text that changes whenever existing tables become unusable."""
    text = f"{_LAYOUT} {view.fingerprint}"
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


class RowCodec:
    """Converts rows to parameters, and records to rows."""

    def __init__(self, view: ViewDefinition) -> None:
        self.view = view
        self.columns = columns_of(view)

    def encode(self, key: str, versioned: VersionedRow) -> tuple[Any, ...]:
        """Return the key, the columns' values, then revision, position and started."""
        row = versioned.row
        values = []
        for column in self.columns:
            value = getattr(row, column.field)
            if column.adapter is not None:
                value = column.adapter.encode(value)
            elif column.to_sql is not None and value is not None:
                value = column.to_sql(value)
            values.append(value)
        return (key, *values, versioned.revision, versioned.position, versioned.started)

    def decode(self, record: Any) -> VersionedRow:
        """Return the row that a record of `select_list` holds."""
        fields: dict[str, Any] = {}
        for column in self.columns:
            value = record[column.field]
            if value is not None:
                if column.adapter is not None:
                    value = column.adapter.decode(value)
                elif column.from_sql is not None:
                    value = column.from_sql(value)
            fields[column.field] = value
        row = self.view.model.model_validate(fields)
        return VersionedRow(row, record["_revision"], record["_position"], record["_started"])

    @property
    def select_list(self) -> str:
        """The expressions that a SELECT from a table named t needs."""
        names = [column.quoted for column in self.columns]
        names += ["_key", "_revision", "_position", "_started"]
        return ", ".join(f"t.{name}" for name in names)
