"""What a competing consumer tells of itself costs little, however much is parked."""

from __future__ import annotations

import asyncio
from typing import Any

from eventstore.memory import MemoryLog
from projections.competing.consumer import Consumer
from projections.poison import Parked
from rayfold import Registry
from tests.integration.projections import small

SMALL = Registry([small])


class _Database:
    """Has come to a position."""

    async def fetchval(self, statement: str, *parameters: Any) -> int:
        return 7


async def test_what_takes_long_to_count_is_not_counted_for_each_status() -> None:
    groups: Any = None
    database: Any = _Database()
    consumer = Consumer(SMALL, MemoryLog(), groups, "", SMALL.views["totals"])
    consumer._pool = database
    counted = 0

    async def count(pool: Any) -> tuple[int, list[Parked]]:
        nonlocal counted
        counted += 1
        await asyncio.sleep(0.1)
        return 100_000 + counted, []

    consumer._deduplication.first_parked = count  # type: ignore[method-assign]
    for _ in range(10):
        assert (await consumer.status())["parked"] > 100_000
    assert 1 <= counted <= 5
