"""From the tables that are there to those that the code wants: planned, then done while it serves.

Two steps. The first leaves tables that both the old code and the new can live with: it adds, and
takes NOT NULL from what the new code no longer writes. The second, `--drop`, removes what only the
old code needed, once none of it runs. A row knows the layout that it was written for; whoever
meets a row of another folds it from the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import PydanticUndefined

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
    defaults: list[tuple[Table, Place]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What cannot be derived, with what to write instead. If there is any, nothing is done."""
    left: dict[str, list[str]] = field(default_factory=dict)
    """By table, columns that only the old code needs; of a whole table, none."""

    @property
    def changes(self) -> bool:
        """Tell whether the tables become others."""
        return bool(self.statements or self.copies or self.defaults)


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
    for table in layout.tables:
        old = found.tables.get(table.name)
        if old is not None:
            _compare_columns(plan, table, old)
        elif table.name in plan.left:
            plan.refused.append(
                f"the table {table.name} is left of a layout before: run `rayfold migrate --drop`"
            )
        else:
            plan.statements.append(creation_of(layout, table))
            plan.said.append(f"make the table {table.name}, empty")
    wanted = {table.name for table in layout.tables}
    for name in found.tables.keys() - wanted:
        plan.left[name] = []
        plan.said.append(f"use the table {name} no more: it stays until --drop")
    if found.tables == layout.described():
        plan.number = found.number
    return plan


def _compare_columns(plan: Migration, table: Table, old: dict[str, list[Any]]) -> None:
    target, sources = name_of(table), set()
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
        before = "_".join((*place.path[:-1], place.renamed_from)) if place.renamed_from else ""
        if before in old:
            if old[before][0] != wanted:
                plan.refused.append(
                    f"{name} was {before}, which is {old[before][0]}, not {wanted}: rename it in"
                    " one release and change its type in another"
                )
                continue
            sources.add(before)
            plan.statements.append(_add(target, place))
            plan.copies.append((table, place, before))
            plan.said.append(f"add {name}, with the values of {before}")
        elif place.nullable:
            plan.statements.append(_add(target, place))
            plan.said.append(f"add {name}, null in the rows that are there")
        elif place.default is not PydanticUndefined:
            plan.defaults.append((table, place))
            plan.said.append(f"add {name}, {place.default!r} in the rows that are there")
        else:
            plan.refused.append(
                f"{name} is new and the rows that are there have no value for it: give the field a"
                ' default, or say Annotated[…, RenamedFrom("…")] if it had another name'
            )
    for name in old.keys() - {place.name for place in table.places}:
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
        if (was, wanted) not in _WIDER:
            plan.refused.append(
                f"{name} is {wanted} now and was {was}: that cannot be derived. Keep the field as"
                " it was, add another of the new type beside it with a default, fill it in"
                " `evolve`, and take the old one away in a release after that"
            )
            return
        plan.statements.append(f"ALTER TABLE {target} ALTER COLUMN {column} TYPE {wanted}")
        plan.said.append(f"make {name} {wanted} of {was}; the table is locked while it is written")
    if place.nullable and not nullable:
        plan.statements.append(f"ALTER TABLE {target} ALTER COLUMN {column} DROP NOT NULL")
        plan.said.append(f"allow null in {name}")
    elif nullable and not place.nullable:
        plan.refused.append(
            f"{name} may be null in the rows that are there, and must not be now: keep it optional"
        )


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
        after, done = ids[-1], done + len(ids)


def _copies(aggregate: AggregateType, plan: Migration) -> dict[str, list[tuple[Place, str]]]:
    """Return by table which columns have their values from others that are still there."""
    found: dict[str, list[tuple[Place, str]]] = {}
    for table in aggregate.layout().tables:
        found[table.name] = [
            (place, before)
            for place in table.places
            if place.renamed_from
            and (before := "_".join((*place.path[:-1], place.renamed_from)))
            in plan.left.get(table.name, ())
        ]
    return found


async def drop(connection: Connection, aggregate: AggregateType) -> list[str]:
    """Remove what only old code needed; return what that was, a sentence each. It cannot be undone.

    Added columns become NOT NULL where they are to be, as nobody leaves them out any more.
    """
    said = []
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'")
        await lock(connection)
        found = await layout_found(connection, aggregate.category)
        if found is None:
            return []
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
