"""What position an answer of Postgres is of, when partitions are at different places."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from projections.errors import Behind
from projections.postgres_reads import PostgresReads
from projections.projector import hash_of
from projections.replica import Ask
from projections.schema import prepare
from rayfold import Registry
from tests.projections import small
from tests.projections.small import Totals
from tests.projections.test_poison import dsn

REGISTRY = Registry([small])
__all__ = ["dsn"]

BEHIND, AHEAD = 50, 100


@pytest.fixture
async def reads(dsn: str) -> AsyncIterator[PostgresReads]:
    """Totals in two partitions, of which the first lags."""
    connection = await asyncpg.connect(dsn)
    await prepare(connection, [Totals], {"totals": 2})
    await connection.execute(
        "UPDATE rayfold_checkpoint SET position = CASE partition WHEN 0 THEN $1::int ELSE $2 END",
        BEHIND,
        AHEAD,
    )
    await connection.close()
    found = PostgresReads(REGISTRY, dsn)
    yield found
    found.close()


def ask(at_least: int, key: str | None = None) -> Ask:
    return Ask("totals", key, at_least, {}, 10, None)


async def test_a_page_needs_all_partitions_and_has_seen_the_furthest(reads: PostgresReads) -> None:
    assert (await reads.ask(ask(BEHIND), 0)).position == AHEAD
    with pytest.raises(Behind) as behind:
        await reads.ask(ask(BEHIND + 1), time.monotonic())
    assert (behind.value.position, behind.value.wanted) == (BEHIND, BEHIND + 1)


async def test_a_row_needs_its_own_partition(reads: PostgresReads) -> None:
    ahead = next(key for key in "abcdefgh" if hash_of(key) % 2 == 1)
    lagging = next(key for key in "abcdefgh" if hash_of(key) % 2 == 0)
    assert (await reads.ask(ask(AHEAD, ahead), 0)).position == AHEAD
    with pytest.raises(Behind):
        await reads.ask(ask(AHEAD, lagging), time.monotonic())
