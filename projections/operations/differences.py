"""The differences of a view in a store from the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from projections.memory.table import Row, Table
from rayfold import ViewDefinition
from rayfold.core_schemas import holds


class StoredRow(NamedTuple):
    """A row in a store: its document, and the positions of its last and first event."""

    body: bytes
    position: int
    started: int


class Difference(NamedTuple):
    """`expected` is the row by the log; None on either side means that there is no such row."""

    store: str
    view: str
    key: str
    expected: str | None
    found: str | None


def rows_of(table: Table) -> dict[str, StoredRow]:
    """Return the rows of a table, by key."""
    return {
        key: StoredRow(row.json(), row.position, row.started) for key, row in table.rows.items()
    }


def compare(
    store: str,
    view: ViewDefinition,
    expected: Mapping[str, StoredRow],
    found: Mapping[str, StoredRow],
    until: int,
) -> list[Difference]:
    """Return the rows that differ, except those that have changed since `until`.

    Where a row began must be equal too, as it determines the pages.
    """
    in_order = not holds(view.model, "set", "frozenset")
    differences = []
    for key in expected.keys() | found.keys():
        wanted, stored = expected.get(key), found.get(key)
        if stored is not None and stored.position > until:
            continue
        if (
            wanted is None
            or stored is None
            or (
                wanted.body != stored.body
                and (in_order or not _equal(view, wanted.body, stored.body))
            )
        ):
            texts = [row.body.decode(errors="replace") if row else None for row in (wanted, stored)]
        elif wanted.started != stored.started:
            texts = [f"began at position {row.started}" for row in (wanted, stored)]
        else:
            continue
        differences.append(Difference(store, view.name, key, *texts))
    return differences


def _equal(view: ViewDefinition, one: bytes, other: bytes) -> bool:
    # A set is written in an arbitrary order: the values read from it are compared.
    rows = [Row.copied(view, 0, 0, 0, body, ()) for body in (one, other)]
    revisions = [body.rpartition(b',"revision":')[2] for body in (one, other)]
    try:
        return revisions[0] == revisions[1] and rows[0].entry.row == rows[1].entry.row
    except ValueError:  # somebody else wrote what is no row of the view
        return False


def plain(differences: list[Difference]) -> list[dict[str, Any]]:
    """Return the differences as plain data, for JSON."""
    return [difference._asdict() for difference in differences]
