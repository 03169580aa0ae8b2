"""Reading and writing one view's rows in Postgres, many at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import asyncpg

from projections.postgres.row_codec import RowCodec
from projections.postgres.schema import table_of
from rayfold import VersionedRow, ViewDefinition
from rayfold.runtime.postgres_text import is_storable

BULK = 100
"""The number of new rows from which COPY is faster than an upsert."""


class Rows:
    """The statements of one view's table."""

    def __init__(self, view: ViewDefinition, table: str | None = None) -> None:
        """`table` is a generation in the making; by default the live one."""
        self.view = view
        self.table = table or table_of(view)
        self.codec = RowCodec(view)
        own = [("_revision", "bigint"), ("_position", "bigint"), ("_started", "bigint")]
        columns = [("_key", "text")]
        columns += [(column.field, column.sql_type) for column in self.codec.columns] + own
        names = ", ".join(f'"{name}"' for name, _ in columns)
        # JSON is sent as text: not every driver knows binary arrays of json.
        wire = [("text" if kind == "json" else kind) for _, kind in columns]
        arrays = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(wire, 1))
        values = ", ".join(f'u."{name}"::{kind}' for name, kind in columns)
        changes = ", ".join(f'"{name}" = excluded."{name}"' for name, _ in columns[1:])
        self._columns = [name for name, _ in columns]
        self._upsert = (
            f'INSERT INTO "{self.table}" ({names}) SELECT {values}'
            f" FROM unnest({arrays}) AS u({names})"
            f" ON CONFLICT (_key) DO UPDATE SET {changes}"
        )
        self._load = f'SELECT {self.codec.select_list} FROM "{self.table}" t WHERE _key = ANY($1)'
        self.select_all = f'SELECT {self.codec.select_list} FROM "{self.table}" t'
        self._delete = f'DELETE FROM "{self.table}" WHERE _key = ANY($1)'

    async def load(
        self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], keys: Iterable[str]
    ) -> dict[str, VersionedRow]:
        """Return the rows with these keys, if they exist."""
        records = await connection.fetch(self._load, _possible(keys))
        return {record["_key"]: self.codec.decode(record) for record in records}

    async def store(
        self,
        connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record],
        changed: Mapping[str, VersionedRow | None],
        new: Collection[str] = (),
    ) -> None:
        """Write rows; delete those that are None. The table has none of the `new` keys."""
        present = [(key, entry) for key, entry in changed.items() if entry is not None]
        fresh = [row for row in present if row[0] in new]
        if len(fresh) >= BULK:
            records = [self.codec.encode(*row) for row in fresh]
            await connection.copy_records_to_table(
                self.table, records=records, columns=self._columns
            )
            present = [row for row in present if row[0] not in new]
        if present:
            encoded = [self.codec.encode(*row) for row in present]
            columns: list[list[Any]] = [list(column) for column in zip(*encoded, strict=True)]
            # `unnest` fills missing values with NULL; the driver would check each of them twice.
            filled = [[] if each.count(None) == len(each) else each for each in columns]
            await connection.execute(self._upsert, *filled)
        gone = _possible(key for key, entry in changed.items() if entry is None)
        if gone:
            await connection.execute(self._delete, gone)


def _possible(keys: Iterable[str]) -> list[str]:
    """Return the keys that may have a row: Postgres cannot store the others."""
    return [key for key in keys if is_storable(key)]
