"""Planning a migration from the existing tables to those the code needs, and what is impossible.

Both old and new code can use the resulting tables: a plan adds columns, and drops NOT NULL from
those that the new code no longer writes. What only the old code needs is in `left`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import PydanticUndefined

from actors.host.state.tables import SCHEMA, Found, creation_of, name_of
from rayfold.aggregate import AggregateType
from rayfold.state_layout import Place, Table

_WIDER = {
    ("bigint", "numeric"),
    ("bigint", "text"),
    ("numeric", "text"),
    ("uuid", "text"),
    ("boolean", "text"),
    ("date", "text"),
}
"""By type: wider types that hold all of its values and with which old statements still work."""


@dataclass
class Migration:
    """The migration of one aggregate class: sentences for people, statements for Postgres."""

    category: str
    number: int
    """The number of the layout that it leads to."""
    said: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    copies: list[tuple[Table, Place, str]] = field(default_factory=list)
    """Columns that take their values from the column of that former name."""
    moves: list[tuple[Table, str]] = field(default_factory=list)
    """Tables that take their rows from the table of that former name."""
    defaults: list[tuple[Table, Place]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Changes that cannot be derived, with what to write instead. If there are any, nothing is
    done.
    """
    left: dict[str, list[str]] = field(default_factory=dict)
    """By table: columns that only the old code needs; an empty list means the whole table."""


def compare(aggregate: AggregateType, found: Found | None) -> Migration:
    """Return the migration from the tables that were found to the code's layout. Pure."""
    layout = aggregate.layout()
    plan = Migration(aggregate.category, found.number + 1 if found is not None else 1)
    if found is None:
        for table in layout.tables:
            plan.statements.append(creation_of(layout, table))
            plan.said.append(f"make the table {table.name}")
        return plan
    plan.left = {name: list(columns) for name, columns in found.left.items()}
    if found.storage != "state":
        _empty(plan, found)
    wanted = {table.name for table in layout.tables}
    for table in layout.tables:
        old = found.tables.get(table.name)
        if old is not None:
            _compare_columns(plan, table, old, found)
        elif table.name in plan.left:
            plan.refused.append(
                f"the table {table.name} is left from an old layout: run `rayfold migrate --drop`"
            )
        else:
            _compare_new(plan, table, found, wanted)
            plan.statements.append(creation_of(layout, table))
    moved = {before for _, before in plan.moves}
    for name in sorted(found.tables.keys() - wanted):
        plan.left[name] = []
        if name not in moved:
            plan.said.append(f"stop using the table {name}: it stays until --drop")
    if found.tables == layout.described():
        plan.number = found.number
    return plan


def _empty(plan: Migration, found: Found) -> None:
    """Remove rows left from before the aggregate became event-sourced: they are written again.

    They were not maintained meanwhile: a changed `evolve`, deletions and forgotten persons have not
    reached them, and a row that is at its stream's last event would be taken as valid.
    """
    tables = sorted({*found.tables, *found.left})
    plan.said.append(f"empty {', '.join(tables)}: their rows are out of date")
    plan.statements += [
        "TRUNCATE " + ", ".join(f'{SCHEMA}."{table}"' for table in tables),
        f"DELETE FROM {SCHEMA}._command WHERE split_part(stream, '-', 1) = '{plan.category}'",
    ]


def _compare_new(plan: Migration, table: Table, found: Found, wanted: set[str]) -> None:
    """Plan how a new table is filled: from the rows of a table with a former name."""
    before = first_known(table.formers, found.tables)
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
    """Return the old column that holds the values of a place, None if none does."""
    return first_known((place.name, *place.formers), old)


def first_known(names: Iterable[str], among: Iterable[str]) -> str | None:
    """Return the first of these names that is in `among`; None if none is."""
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


def was_there(place: Place, table: Table, old: Iterable[str], tables: Iterable[str] = ()) -> bool:
    """Return whether the model whose presence a place marks was always present before."""
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
                f"the column {name} is left from an old layout: run `rayfold migrate --drop`"
            )
            continue
        before = first_known(place.formers, old)
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
        elif was_there(place, table, old, found.tables):
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
            plan.said.append(f"stop using {table.name}.{name}: it stays until --drop")


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
    # Old code writes rows without it until the last old process has ended.
    return f"ALTER TABLE {target} ADD COLUMN {place.column.quoted} {place.column.sql_type}"
