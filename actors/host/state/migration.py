"""Migrating the tables of states while the code serves: `migration_plan` says which change.

There are two steps. The first changes the tables such that both old and new code can use them. The
second, `--drop`, removes what only the old code needed, once none of it runs. Each row records the
layout for which it was written; a reader that finds another layout folds the state from the log.
"""

from __future__ import annotations

import json
from typing import Any

from actors.errors import WriteSideError
from actors.host.state.migration_plan import (
    Migration,
    compare,
    first_known,
    source_of,
    was_there,
)
from actors.host.state.tables import (
    OWN,
    SCHEMA,
    Connection,
    Found,
    column_of,
    layout_found,
    lock,
    name_of,
)
from rayfold.aggregate import AggregateType
from rayfold.state_layout import Place, Table

BATCH = 2000
"""Rows that are changed in one transaction: commands to their aggregates wait that long."""

LOCK_TIMEOUT = 5
"""Seconds that a change waits for a table lock: later statements on the table queue behind it."""


async def expand(connection: Connection, aggregate: AggregateType) -> Migration:
    """Change the tables such that old and new code can use them; return what was done.

    Does nothing if a change is refused.
    """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
        await lock(connection)
        await connection.execute(OWN)
        found = await layout_found(connection, aggregate.category)
        plan = compare(aggregate, found)
        if plan.refused:
            return plan
        for statement in plan.statements:
            await connection.execute(statement)
        for table, place in plan.defaults:
            sql_type = place.column.sql_type
            literal = await connection.fetchval(
                f"SELECT quote_literal(($1::{sql_type})::text)", _sql_value(place)
            )
            await connection.execute(
                f"ALTER TABLE {name_of(table)} ADD COLUMN {column_of(place)}"
                f" DEFAULT {literal}::{sql_type}"
            )
        await note(connection, aggregate, plan, found)
    await convert(connection, aggregate, plan)
    return plan


def _sql_value(place: Place) -> Any:
    column, value = place.column, place.default
    if column.adapter is not None:
        return column.adapter.encode(value)
    return column.to_sql(value) if column.to_sql is not None else value


async def note(
    connection: Connection, aggregate: AggregateType, plan: Migration, found: Found | None
) -> None:
    """Record which layout the tables have now, and which older one old code may still use."""
    tables = aggregate.layout().described()
    previous = None
    if found is not None:
        previous = found.previous if found.tables == tables else [found.number, found.tables]
    await connection.execute(
        f"INSERT INTO {SCHEMA}._layout (category, number, tables, previous, remains, storage)"
        " VALUES ($1, $2, $3, $4, $5, 'state') ON CONFLICT (category) DO UPDATE SET"
        " number = excluded.number, tables = excluded.tables, previous = excluded.previous,"
        " remains = excluded.remains, storage = 'state', since = now(),"
        " filled = _layout.filled AND _layout.storage = 'state'",
        aggregate.category,
        plan.number,
        json.dumps(tables),
        json.dumps(previous),
        json.dumps(plan.left),
    )


async def convert(connection: Connection, aggregate: AggregateType, plan: Migration) -> int:
    """Convert rows written by old code to the new layout, in batches; return how many.

    Only columns that take their values from another column are written; others have their default.
    """
    layout, copies = aggregate.layout(), _copies(aggregate, plan)
    moves = [
        (table, before)
        for table in layout.tables
        if (before := first_known(table.formers, plan.left)) is not None and not plan.left[before]
    ]
    known = {before: await _columns_of(connection, before) for _, before in moves}
    root, after, done = layout.root, "", 0
    while True:
        async with connection.transaction():
            ids = [
                row["_id"]
                for row in await connection.fetch(
                    f"SELECT _id FROM {name_of(root)} WHERE _id > $1 AND _layout <> $2"
                    " ORDER BY _id LIMIT $3 FOR UPDATE",
                    after,
                    plan.number,
                    BATCH,
                )
            ]
            if not ids:
                return done
            for table in layout.tables:
                sets = [
                    f'{place.column.quoted} = "{source}"' for place, source in copies[table.name]
                ]
                if table is root:
                    sets.append(f"_layout = {plan.number}")
                if sets:
                    await connection.execute(
                        f"UPDATE {name_of(table)} SET {', '.join(sets)} WHERE _id = ANY($1)", ids
                    )
            for table, before in moves:
                await connection.execute(f"DELETE FROM {name_of(table)} WHERE _id = ANY($1)", ids)
                await connection.execute(*_moving(table, before, known[before]), ids)
        after, done = ids[-1], done + len(ids)


def _copies(aggregate: AggregateType, plan: Migration) -> dict[str, list[tuple[Place, str]]]:
    """Return, by table, the columns that take their values from old columns that still exist."""
    found: dict[str, list[tuple[Place, str]]] = {}
    for table in aggregate.layout().tables:
        found[table.name] = [
            (place, before)
            for place in table.places
            if (before := first_known(place.formers, plan.left.get(table.name, ()))) is not None
        ]
    return found


async def _columns_of(connection: Connection, table: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = $1 AND table_name = $2",
        SCHEMA,
        table,
    )
    return [row["column_name"] for row in rows]


def _moving(table: Table, before: str, known: list[str]) -> tuple[Any, ...]:
    """Return SQL that copies a table's rows, and its parameters except the last one, the ids."""
    values, parameters = [], []
    for place in table.places:
        source, sql_type = source_of(place, known), place.column.sql_type
        if source is not None:
            values.append(f'"{source}"::{sql_type}')
        elif was_there(place, table, known):
            values.append("true")
        elif place.nullable:
            values.append("NULL")
        else:
            parameters.append(_sql_value(place))
            values.append(f"${len(parameters)}::{sql_type}")
    names = ", ".join([*table.key, *(place.column.quoted for place in table.places)])
    given = ", ".join([*table.key, *values])
    statement = (
        f'INSERT INTO {name_of(table)} ({names}) SELECT {given} FROM {SCHEMA}."{before}"'
        f" WHERE _id = ANY(${len(parameters) + 1})"
    )
    return (statement, *parameters)


class OldCodeWrites(WriteSideError):
    """Rows were written for the previous layout after the conversion: old code still runs."""


async def drop(connection: Connection, aggregate: AggregateType) -> list[str]:
    """Remove what only old code needed; return a sentence for each. It cannot be undone.

    Added columns become NOT NULL where the layout says so, as all code writes them now.

    Raises:
        OldCodeWrites: old code still runs; nothing was removed.
    """
    said = []
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
        await lock(connection)
        found = await layout_found(connection, aggregate.category)
        if found is None:
            return []
        root = aggregate.layout().root
        if found.left and await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {name_of(root)} WHERE _layout <> $1)", found.number
        ):
            raise OldCodeWrites(
                f"rows of {aggregate.category!r} were just written by code of the old"
                " layout: replace what still runs it, then run `rayfold migrate --drop` again"
            )
        for name, columns in sorted(found.left.items()):
            if not columns:
                await connection.execute(f'DROP TABLE IF EXISTS {SCHEMA}."{name}"')
                said.append(f"removed the table {name}")
            for column in columns:
                await connection.execute(
                    f'ALTER TABLE {SCHEMA}."{name}" DROP COLUMN IF EXISTS "{column}"'
                )
                said.append(f"removed {name}.{column}")
        for table in aggregate.layout().tables:
            for place in table.places if found.left else ():
                if not place.nullable:
                    column = f"ALTER COLUMN {place.column.quoted} SET NOT NULL"
                    await connection.execute(f"ALTER TABLE {name_of(table)} {column}")
        await connection.execute(
            f"UPDATE {SCHEMA}._layout SET remains = '{{}}', previous = 'null' WHERE category = $1",
            aggregate.category,
        )
    return said
