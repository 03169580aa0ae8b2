"""How a view in a store differs from the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from projections.memory.table import Row, Table
from rayfold import ViewDefinition
from rayfold.core_schemas import holds


class StoredRow(NamedTuple):
    """A row as a store has it: its document, and the positions of its last and first event."""

    body: bytes
    position: int
    started: int


class Difference(NamedTuple):
    """`expected` is what the log says; None on either side means no such row."""

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
    """Return the rows that differ, leaving out those that have moved on since `until`.

    Pages are cut by where a row began, so that has to be the same too.
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
    # A process writes a set in an order of its own: what counts is what is read from it.
    rows = [Row.copied(view, 0, 0, 0, body, ()) for body in (one, other)]
    revisions = [body.rpartition(b',"revision":')[2] for body in (one, other)]
    try:
        return revisions[0] == revisions[1] and rows[0].entry.row == rows[1].entry.row
    except ValueError:  # somebody else wrote what is no row of the view
        return False


def plain(differences: list[Difference]) -> list[dict[str, Any]]:
    """Return them as JSON."""
    return [difference._asdict() for difference in differences]
