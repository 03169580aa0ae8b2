"""The position of an answer of Postgres, if partitions are at different positions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from projections.errors import Behind
from projections.partitions import hash_of
from projections.postgres.reader import PostgresReader
from projections.postgres.schema import prepare
from projections.row_query import RowQuery
from projections.supervision.placements import Placements
from rayfold import Registry
from tests.integration.projections import small
from tests.integration.projections.small import TOTALS
from tests.integration.projections.test_poison import dsn

REGISTRY = Registry([small])
__all__ = ["dsn"]

BEHIND, AHEAD = 50, 100


@pytest.fixture
async def reads(dsn: str) -> AsyncIterator[PostgresReader]:
    """Totals in two partitions, of which the first lags."""
    connection = await asyncpg.connect(dsn)
    await prepare(connection, [TOTALS], {"totals": 2})
    await connection.execute(
        "UPDATE rayfold_checkpoint SET position = CASE partition WHEN 0 THEN $1::int ELSE $2 END",
        BEHIND,
        AHEAD,
    )
    await connection.close()
    found = PostgresReader(REGISTRY, Placements(), dsn)
    yield found
    await found.store.close()


def ask(at_least: int, key: str | None = None) -> RowQuery:
    return RowQuery("totals", key, at_least, {}, 10, None)


async def test_a_page_waits_for_all_partitions_and_has_the_position_of_the_furthest(
    reads: PostgresReader,
) -> None:
    assert (await reads.ask(ask(BEHIND), 0)).position == AHEAD
    with pytest.raises(Behind) as behind:
        await reads.ask(ask(BEHIND + 1), time.monotonic())
    assert (behind.value.position, behind.value.wanted) == (BEHIND, BEHIND + 1)


async def test_a_row_waits_for_its_own_partition_only(reads: PostgresReader) -> None:
    ahead = next(key for key in "abcdefgh" if hash_of(key) % 2 == 1)
    lagging = next(key for key in "abcdefgh" if hash_of(key) % 2 == 0)
    assert (await reads.ask(ask(AHEAD, ahead), 0)).position == AHEAD
    with pytest.raises(Behind):
        await reads.ask(ask(AHEAD, lagging), time.monotonic())
