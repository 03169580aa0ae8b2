"""The status of what fills Postgres is cheap, however much is parked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.competing import consumer as consumer_module
from projections.competing.consumer import Consumer
from projections.poison import NAMED, Parked
from projections.sql.projector import SqlProjector
from rayfold import Registry
from tests.integration.projections import small
from tests.integration.projections.test_sql_projection import Lenient

SMALL = Registry([small])


class _Database:
    """Has come to a position."""

    async def fetchval(self, statement: str, *parameters: Any) -> int:
        return 7


async def test_a_slow_count_is_not_repeated_for_each_status() -> None:
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


async def test_a_consumer_whose_postgres_is_silent_still_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise its owner would take it for one that hangs, and replace it."""

    class Silent:
        asked = 0

        async def fetchval(self, statement: str, *parameters: Any) -> None:
            self.asked += 1
            await asyncio.Event().wait()

    monkeypatch.setattr(consumer_module, "MOMENT", 0.01)
    groups: Any = None
    database: Any = Silent()
    consumer = Consumer(SMALL, MemoryLog(), groups, "", SMALL.views["totals"])
    consumer._pool = database
    async with asyncio.timeout(60):
        for _ in range(2):
            assert not (await consumer.status())["ready"]
    assert database.asked == 1


class _Many(dict[str, Parked]):
    """Lets nobody come further than what comes first."""

    def values(self) -> Any:
        def first() -> Iterator[Parked]:
            for at, each in enumerate(super(_Many, self).values()):
                assert at < NAMED, "all skipped events were read"
                yield each

        return first()


async def test_a_sql_projection_reports_skipped_events_without_reading_them_all() -> None:
    projector = SqlProjector(SMALL, MemoryLog(), "postgresql://nowhere/none", Lenient)
    skipped = [Parked("lenient-sum", f"{at}@a", "a", at, at, "no") for at in range(10)]
    projector._skipped = _Many({each.key: each for each in skipped})
    told = projector.status()
    assert told["parked"] == 10
    assert [each["key"] for each in told["poison"]] == ["0@a", "1@a", "2@a"]
