"""A table that takes over a copy, and rows that were removed during the copy."""

from __future__ import annotations

import json
import random
from itertools import count

from projections.memory.table import Copied, Table
from tests.integration.projections.small import BALANCES

ROWS = 2_000


def copied(totals: list[int]) -> Copied:
    """Return rows with these totals, in an order of their own."""
    numbers = list(range(len(totals)))
    random.Random(1).shuffle(numbers)
    return Copied(
        [f"c{number:06}" for number in numbers],
        [0] * len(totals),
        numbers,
        numbers,
        [b'{"counter":"c%06d","total":%d,"revision":0}' % (at, totals[at]) for at in numbers],
        [(str(totals[number]),) for number in numbers],
    )


def table_of(rows: Copied, gone: dict[str, int]) -> Table:
    table = Table(BALANCES)
    table.fill(rows)
    table.without(gone)
    table.filled()
    return table


def keys(table: Table, **filters: str) -> list[str]:
    return [json.loads(row.json())["counter"] for row in table.page(filters, 1_000_000, None)[1]]


def test_removed_rows_are_in_no_list_and_recreated_ones_are() -> None:
    gone = {"c000001": 5, "c000002": 5, "c000004": 3, "c000009": 7}
    table = table_of(copied([7, 7, 8, 7, 7, 9]), gone)
    there = ["c000000", "c000003", "c000004", "c000005"]  # the fifth began again, after it went
    assert sorted(table.rows) == keys(table) == there
    assert keys(table, total="7") == ["c000000", "c000003", "c000004"]
    assert keys(table, total="8") == []
    assert keys(table, total="9") == ["c000005"]


def test_a_list_is_traversed_once_however_many_rows_were_removed() -> None:
    compared = count()

    class Started(int):
        """Counts how often a row's place is compared with another."""

        __hash__ = int.__hash__

        def __eq__(self, other: object) -> bool:
            next(compared)
            return int(self) == other

    rows = copied([1] * ROWS)
    table = Table(BALANCES)
    table.fill(rows._replace(started=[Started(at) for at in rows.started]))
    table.without({f"c{number:06}": ROWS + 1 for number in range(0, ROWS, 2)})
    assert len(table.rows) == ROWS // 2
    assert next(compared) < ROWS  # one by one it was half a million times, for each list
