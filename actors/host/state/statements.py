"""SQL for the states of one aggregate class; a group commit is a single statement.

A single statement is a transaction that takes one round trip to Postgres. Everything in it depends
on `won`, the aggregates whose version is the expected one; the others are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from msgspec.json import encode

from actors.host.state.port import Change
from actors.host.state.rows import Difference, Key, Values, difference
from actors.host.state.tables import SCHEMA, name_of
from rayfold.aggregate import AggregateType
from rayfold.state_layout import Place, Table


class Statements:
    """The statements of one aggregate class; `number` is that of its layout."""

    def __init__(self, aggregate: AggregateType, number: int) -> None:
        self._aggregate = aggregate
        self.layout = aggregate.layout()
        self.number = number

    @cached_property
    def commit(self) -> str:
        """The statement that takes `arguments`; it returns the ids of those that were written."""
        parameters = _Parameters()
        parts = [  # in the order of `arguments`
            *self._root(parameters),
            *self._lists(parameters),
            *self._outbox(parameters),
        ]
        return f"WITH {', '.join(parts)} SELECT _id FROM won"

    def _root(self, parameters: _Parameters) -> Iterator[str]:
        """Yield SQL that writes the aggregates' root rows and finds which of them have `won`."""
        root = self.layout.root
        given = parameters.unnest(
            "_id text, _expected bigint, _version bigint, _began bigint",
            root.places,
        )
        names = [place.column.quoted for place in root.places]
        columns = "".join(f", {name}" for name in names)
        values = "".join(f", g.{name}" for name in names)
        sets = "".join(f", {name} = g.{name}" for name in names)
        target = name_of(root)
        yield f"given AS MATERIALIZED (SELECT * FROM {given})"
        yield (
            f"changed AS (UPDATE {target} t SET _version = g._version, _began = g._began,"
            f" _layout = {self.number}{sets} FROM given g WHERE g._expected >= 0"
            # This uses the index, however small the table was when the statement was planned.
            " AND t._id = ANY($1) AND t._id = g._id AND t._version = g._expected"
            " RETURNING t._id)"
        )
        yield (
            f"begun AS (INSERT INTO {target} (_id, _version, _began, _layout{columns})"
            f" SELECT g._id, g._version, g._began, {self.number}{values} FROM given g"
            " WHERE g._expected < 0 ON CONFLICT (_id) DO NOTHING RETURNING _id)"
        )
        yield "won AS MATERIALIZED (SELECT _id FROM changed UNION ALL SELECT _id FROM begun)"

    def _lists(self, parameters: _Parameters) -> Iterator[str]:
        """Yield SQL that writes and removes the rows of their lists."""
        for number, table in enumerate(self.layout.tables[1:]):
            keys = ", ".join(f"{name} {'text' if name == '_id' else 'int'}" for name in table.key)
            written = parameters.unnest(keys, table.places)
            key = ", ".join(table.key)
            named = [place.column.quoted for place in table.places]
            sets = ", ".join(f"{name} = excluded.{name}" for name in named)
            every = ", ".join([*table.key, *named])
            yield (
                f"written_{number} AS (INSERT INTO {name_of(table)} ({every})"
                f" SELECT {', '.join(f'g.{each}' for each in [*table.key, *named])}"
                f" FROM {written} JOIN won USING (_id)"
                f" ON CONFLICT ({key}) DO {f'UPDATE SET {sets}' if sets else 'NOTHING'})"
            )
            removed, ids = parameters.unnest(keys, []), parameters.latest(len(table.key))
            same = " AND ".join(f"t.{name} = g.{name}" for name in table.key)
            yield (
                f"removed_{number} AS (DELETE FROM {name_of(table)} t USING {removed}"
                f" JOIN won USING (_id) WHERE t._id = ANY({ids}) AND {same})"
            )

    def _outbox(self, parameters: _Parameters) -> Iterator[str]:
        """Yield SQL that stores their events until they are on the log, and the commands seen."""
        category = f"'{self._aggregate.category}-'"
        events = parameters.unnest(
            "_id text, revision bigint, id uuid, type text, data bytea, metadata bytea", []
        )
        yield (
            f"sent AS (INSERT INTO {SCHEMA}._outbox (stream, revision, id, type, data, metadata)"
            f" SELECT {category} || g._id, g.revision, g.id, g.type, g.data, g.metadata"
            f" FROM {events} JOIN won USING (_id))"
        )
        commands = parameters.unnest(
            "_id text, number bigint, id uuid, fingerprint text, revision bigint,"
            " at double precision",
            [],
        )
        yield (
            f"seen AS (INSERT INTO {SCHEMA}._command"
            f" (stream, number, id, fingerprint, revision, at)"
            f" SELECT {category} || g._id, g.number, g.id, g.fingerprint, g.revision, g.at"
            f" FROM {commands} JOIN won USING (_id))"
        )
        forgotten = parameters.unnest("stream text, _id text, number bigint", [])
        streams = parameters.latest(3)
        yield (
            f"forgotten AS (DELETE FROM {SCHEMA}._command c USING {forgotten} JOIN won USING (_id)"
            f" WHERE c.stream = ANY({streams}) AND c.stream = g.stream AND c.number <= g.number)"
        )
        settled = parameters.unnest("stream text, revision bigint", [])
        streams = parameters.latest(2)
        yield (
            f"settled AS (DELETE FROM {SCHEMA}._outbox o USING {settled}"
            f" WHERE o.stream = ANY({streams}) AND o.stream = g.stream"
            " AND o.revision <= g.revision)"
        )

    def arguments(self, changes: Sequence[Change], relayed: dict[str, int]) -> list[Sequence[Any]]:
        """Return the arrays that `commit` takes as parameters.

        Raises:
            Unstorable: a state has a value that its tables cannot hold.
        """
        ids = [each.aggregate_id for each in changes]
        found = [difference(self.layout, each.before, each.state) for each in changes]
        arrays: list[Sequence[Any]] = [
            ids,
            [each.expected for each in changes],
            [each.version for each in changes],
            [each.began for each in changes],
            *_columns(self.layout.root, [each.root for each in found]),
        ]
        for table in self.layout.tables[1:]:
            written = [
                (name, key, values)
                for name, each in zip(ids, found, strict=True)
                for key, values in each.written.get(table.name, ())
            ]
            arrays += _keys(table, [(name, key) for name, key, _ in written])
            arrays += _columns(table, [values for _, _, values in written])
            arrays += _keys(table, _removed(table, ids, found))
        arrays += _transposed(
            6,
            [
                (
                    name,
                    each.version + 1 - len(each.records) + number,
                    record.id,
                    record.event_type,
                    record.data,
                    encode(record.metadata),
                )
                for name, each in zip(ids, changes, strict=True)
                for number, record in enumerate(each.records)
            ],
        )
        arrays += _transposed(
            6,
            [
                (name, *command)
                for name, each in zip(ids, changes, strict=True)
                for command in each.commands
            ],
        )
        arrays += _transposed(
            3,
            [
                (each.stream, name, each.forget_up_to)
                for name, each in zip(ids, changes, strict=True)
                if each.forget_up_to >= 0
            ],
        )
        return [*arrays, list(relayed), list(relayed.values())]

    @cached_property
    def load_root(self) -> str:
        """The query for root rows by the ids in $1: id, version, began, layout, columns."""
        columns = "".join(f", {place.column.quoted}" for place in self.layout.root.places)
        return (
            f"SELECT _id, _version, _began, _layout{columns} FROM {name_of(self.layout.root)}"
            " WHERE _id = ANY($1::text[])"
        )

    def load_list(self, table: Table) -> str:
        """Return the query for list rows of the ids in $1, in order: the keys, then the columns."""
        key = ", ".join(table.key)
        columns = "".join(f", {place.column.quoted}" for place in table.places)
        return (
            f"SELECT {key}{columns} FROM {name_of(table)}"
            f" WHERE _id = ANY($1::text[]) ORDER BY {key}"
        )


def _removed(
    table: Table, ids: Sequence[str], found: Sequence[Difference]
) -> list[tuple[str, Key]]:
    return [
        (name, key)
        for name, each in zip(ids, found, strict=True)
        for key in each.removed.get(table.name, ())
    ]


def _columns(table: Table, rows: Sequence[Values]) -> list[Sequence[Any]]:
    return _transposed(len(table.places), rows)


def _keys(table: Table, keys: Sequence[tuple[str, Key]]) -> list[Sequence[Any]]:
    return _transposed(len(table.key), [(name, *key) for name, key in keys])


def _transposed(width: int, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    return [*zip(*rows, strict=True)] if rows else [()] * width


class _Parameters:
    """Numbers the array parameters of a statement in the order of `Statements.arguments`."""

    def __init__(self) -> None:
        self._count = 0

    def latest(self, count: int) -> str:
        """Return the first of the last `count` parameters."""
        return f"${self._count - count + 1}"

    def unnest(self, columns: str, places: Sequence[Place]) -> str:
        """Return SQL that unnests arrays as `g`: `columns` (`name type, …`), then the places."""
        typed = [each.strip().split(" ", 1) for each in columns.split(",")]
        typed += [[place.column.quoted, place.column.sql_type] for place in places]
        arrays = []
        for _, sql_type in typed:
            self._count += 1
            arrays.append(f"${self._count}::{sql_type}[]")
        names = ", ".join(name for name, _ in typed)
        return f"unnest({', '.join(arrays)}) AS g({names})"
