"""From the tables that are there to those that the code wants: planned, then done while it serves.

Two steps. The first leaves tables that both the old code and the new can live with: it adds, and
takes NOT NULL from what the new code no longer writes. The second, `--drop`, removes what only the
old code needed, once none of it runs. A row knows the layout that it was written for; whoever
meets a row of another folds it from the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import PydanticUndefined

from actors.errors import WriteSideError
from actors.host.state.tables import (
    OWN,
    SCHEMA,
    Connection,
    Found,
    column_of,
    creation_of,
    layout_found,
    lock,
    name_of,
)
from rayfold.registry import AggregateType
from rayfold.state_layout import Place, Table

BATCH = 2000
"""Rows that are changed together: commands to them wait that long."""

LOCK_TIMEOUT = 5
"""Seconds that a change waits for a table: whoever comes behind it waits as well."""

_WIDER = {
    ("bigint", "numeric"),
    ("bigint", "text"),
    ("numeric", "text"),
    ("uuid", "text"),
    ("boolean", "text"),
    ("date", "text"),
}
"""Types whose every value the other has too, and whose old statements still work."""


@dataclass
class Migration:
    """What is to be done for one aggregate class: sentences for people, statements for Postgres."""

    category: str
    number: int
    """Of the layout that it leads to."""
    said: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    copies: list[tuple[Table, Place, str]] = field(default_factory=list)
    """Columns that take their values from others, which had that name."""
    moves: list[tuple[Table, str]] = field(default_factory=list)
    """Tables that take their rows from others, which had that name."""
    defaults: list[tuple[Table, Place]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What cannot be derived, with what to write instead. If there is any, nothing is done."""
    left: dict[str, list[str]] = field(default_factory=dict)
    """By table, columns that only the old code needs; of a whole table, none."""

    @property
    def changes(self) -> bool:
        """Tell whether the tables become others."""
        return bool(self.statements or self.copies or self.moves or self.defaults)


def compare(aggregate: AggregateType, found: Found | None) -> Migration:
    """Return what takes the tables that were found to the code's. Pure."""
    layout = aggregate.layout()
    plan = Migration(aggregate.category, found.number + 1 if found is not None else 1)
    if found is None:
        for table in layout.tables:
            plan.statements.append(creation_of(layout, table))
            plan.said.append(f"make the table {table.name}")
        return plan
    plan.left = {name: list(columns) for name, columns in found.left.items()}
    wanted = {table.name for table in layout.tables}
    for table in layout.tables:
        old = found.tables.get(table.name)
        if old is not None:
            _compare_columns(plan, table, old, found)
        elif table.name in plan.left:
            plan.refused.append(
                f"the table {table.name} is left of a layout before: run `rayfold migrate --drop`"
            )
        else:
            _compare_new(plan, table, found, wanted)
            plan.statements.append(creation_of(layout, table))
    moved = {before for _, before in plan.moves}
    for name in sorted(found.tables.keys() - wanted):
        plan.left[name] = []
        if name not in moved:
            plan.said.append(f"use the table {name} no more: it stays until --drop")
    if found.tables == layout.described():
        plan.number = found.number
    return plan


def _compare_new(plan: Migration, table: Table, found: Found, wanted: set[str]) -> None:
    """Say what a table that there is not yet begins with: rows of one that had another name."""
    before = _first(table.formers, found.tables)
    if before is None:
        plan.said.append(f"make the table {table.name}, empty")
        return
    if before in wanted:
        plan.refused.append(_name_in_use(table.name, before))
        return
    plan.moves.append((table, before))
    plan.said.append(f"make the table {table.name}, with the rows of {before}")
    old = found.tables[before]
    for place in table.places:
        name, source = f"{table.name}.{place.name}", source_of(place, old)
        if source is None:
            if not place.nullable and place.default is PydanticUndefined:
                plan.refused.append(_needs_a_default(name))
        elif not _holds(old[source][0], place):
            plan.refused.append(_not_derived(name, old[source][0], place))
        elif old[source][1] and not place.nullable:
            plan.refused.append(_may_be_null(name))


def source_of(place: Place, old: Iterable[str]) -> str | None:
    """Return which of the old columns has the values of a place, None if none has."""
    return _first((place.name, *place.formers), old)


def _first(names: Iterable[str], among: Iterable[str]) -> str | None:
    known = set(among)
    return next((each for each in names if each in known), None)


def _holds(was: str, place: Place) -> bool:
    return was == place.column.sql_type or (was, place.column.sql_type) in _WIDER


def _needs_a_default(name: str) -> str:
    return (
        f"{name} is new and the rows that are there have no value for it: give the field a"
        ' default, or say Annotated[…, RenamedFrom("…")] if it had another name'
    )


def _not_derived(name: str, was: str, place: Place) -> str:
    return (
        f"{name} is {place.column.sql_type} now and was {was}: that cannot be derived. Keep the"
        " field as it was, add another of the new type beside it with a default, fill it in"
        " `evolve`, and take the old one away in a release after that"
    )


def _name_in_use(name: str, before: str) -> str:
    return (
        f"{name} was {before}, a name that the state still has: rename it in one release, and use"
        " the name for something else in another"
    )


def _may_be_null(name: str) -> str:
    return f"{name} may be null in the rows that are there, and must not be now: keep it optional"


def _was_there(place: Place, table: Table, old: Iterable[str], tables: Iterable[str] = ()) -> bool:
    """Tell whether the model that a place marks was there always, when nothing marked it."""
    if not place.marks:
        return False
    inner = [
        each
        for each in table.places
        if each is not place and each.path[: len(place.path)] == place.path
    ]
    if any(source_of(each, old) is not None for each in inner):
        return True
    lists = tuple(f"{table.name}_{name}_" for name in (place.name, *place.formers))
    return any(each.startswith(lists) for each in tables)


def _compare_columns(
    plan: Migration, table: Table, old: dict[str, list[Any]], found: Found
) -> None:
    target, sources = name_of(table), set()
    names = {place.name for place in table.places}
    for place in table.places:
        name, wanted = f"{table.name}.{place.name}", place.column.sql_type
        if place.name in old:
            _compare_column(plan, table, place, old[place.name])
            continue
        if place.name in plan.left.get(table.name, ()):
            plan.refused.append(
                f"the column {name} is left of a layout before: run `rayfold migrate --drop`"
            )
            continue
        before = _first(place.formers, old)
        if before is not None:
            if old[before][0] != wanted:
                plan.refused.append(
                    f"{name} was {before}, which is {old[before][0]}, not {wanted}: rename it in"
                    " one release and change its type in another"
                )
                continue
            if before in names:
                plan.refused.append(_name_in_use(name, f"{table.name}.{before}"))
                continue
            if old[before][1] and not place.nullable:
                plan.refused.append(_may_be_null(name))
                continue
            sources.add(before)
            plan.statements.append(_add(target, place))
            plan.copies.append((table, place, before))
            plan.said.append(f"add {name}, with the values of {before}")
        elif _was_there(place, table, old, found.tables):
            plan.defaults.append((table, replace(place, default=True)))
            plan.said.append(f"add {name}, true in the rows that are there")
        elif place.nullable:
            plan.statements.append(_add(target, place))
            plan.said.append(f"add {name}, null in the rows that are there")
        elif place.default is not PydanticUndefined:
            plan.defaults.append((table, place))
            plan.said.append(f"add {name}, {place.default!r} in the rows that are there")
        else:
            plan.refused.append(_needs_a_default(name))
    for name in sorted(old.keys() - names):
        plan.left.setdefault(table.name, []).append(name)
        if not old[name][1]:
            plan.statements.append(f'ALTER TABLE {target} ALTER COLUMN "{name}" DROP NOT NULL')
        if name not in sources:
            plan.said.append(f"use {table.name}.{name} no more: it stays until --drop")


def _compare_column(plan: Migration, table: Table, place: Place, old: list[Any]) -> None:
    name, wanted, target = f"{table.name}.{place.name}", place.column.sql_type, name_of(table)
    was, nullable = old
    column = place.column.quoted
    if was != wanted:
        if not _holds(was, place):
            plan.refused.append(_not_derived(name, was, place))
            return
        plan.statements.append(f"ALTER TABLE {target} ALTER COLUMN {column} TYPE {wanted}")
        plan.said.append(f"make {name} {wanted} of {was}; the table is locked while it is written")
    if place.nullable and not nullable:
        plan.statements.append(f"ALTER TABLE {target} ALTER COLUMN {column} DROP NOT NULL")
        plan.said.append(f"allow null in {name}")
    elif nullable and not place.nullable:
        plan.refused.append(_may_be_null(name))


def _add(target: str, place: Place) -> str:
    # Old code writes rows without it until the last of it is gone.
    return f"ALTER TABLE {target} ADD COLUMN {place.column.quoted} {place.column.sql_type}"


async def expand(connection: Connection, aggregate: AggregateType) -> Migration:
    """Make the tables such that old and new code can live with them; return what was done.

    Does nothing where something is refused.
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
    """Note which layout the tables have now, and which one old code may go on with."""
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
    """Take rows that old code has written to the new layout, some at a time; return their number.

    Only what has its values from another column is written; the rest is there by default.
    """
    layout, copies = aggregate.layout(), _copies(aggregate, plan)
    moves = [
        (table, before)
        for table in layout.tables
        if (before := _first(table.formers, plan.left)) is not None and not plan.left[before]
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
    """Return by table which columns have their values from others that are still there."""
    found: dict[str, list[tuple[Place, str]]] = {}
    for table in aggregate.layout().tables:
        found[table.name] = [
            (place, before)
            for place in table.places
            if (before := _first(place.formers, plan.left.get(table.name, ()))) is not None
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
    """Return SQL that copies a table's rows of the ids in its last parameter, with the others."""
    values, parameters = [], []
    for place in table.places:
        source, sql_type = source_of(place, known), place.column.sql_type
        if source is not None:
            values.append(f'"{source}"::{sql_type}')
        elif _was_there(place, table, known):
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
    """Rows were written for the layout before since they were converted: old code still runs."""


async def drop(connection: Connection, aggregate: AggregateType) -> list[str]:
    """Remove what only old code needed; return what that was, a sentence each. It cannot be undone.

    Added columns become NOT NULL where they are to be, as nobody leaves them out any more.

    Raises:
        OldCodeWrites: somebody still needs it; nothing was removed.
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
                f"rows of {aggregate.category!r} were written by code of the layout before just"
                " now: replace what still runs it, then run `rayfold migrate --drop` again"
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
