"""What a projector asks of its store; and its tasks end when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from eventstore.records import Batch
from projections.folding import Folding
from projections.poison import Parked
from projections.stores.projector import Projector
from rayfold import Registry, VersionedRow
from tests.integration.projections import small
from tests.integration.projections.small import add


class Writer:
    """Has no rows, and keeps what it is asked for and given."""

    def __init__(self, positions: dict[str, int]) -> None:
        self.positions = positions
        self.asked: list[tuple[str, set[str]]] = []
        self.given: dict[str, Mapping[str, VersionedRow | None]] = {}

    async def open(self) -> list[Parked]:
        return [Parked("balances", "a", "counter-a", 0, self.positions["balances"], "broken")]

    @asynccontextmanager
    async def transaction(self, to: Mapping[str, int]) -> AsyncIterator[Writer]:
        yield self
        self.positions |= to

    async def load(self, view: str, keys: Collection[str]) -> dict[str, VersionedRow]:
        self.asked.append((view, {*keys}))
        return {}

    async def store(self, view: str, rows: Mapping[str, Any], *_: Any) -> None:
        self.given[view] = rows

    async def park(self, *parked: Collection[Any]) -> None:
        assert not any(parked), "events before the parked one were folded already"

    async def forget(self, parked: Collection[Any]) -> None:
        assert not parked


async def test_rows_of_an_up_to_date_view_are_not_loaded_for_another_that_starts() -> None:
    """It might have millions of rows, which would stay in memory."""
    registry, log = Registry([small]), MemoryLog()
    for number, counter in enumerate("abcd"):
        await add(log, counter, number)
    records = [raw async for raw in log.read_all(registry.prefixes)]
    store: Any = SimpleNamespace(name="any", writing=None)
    views = [registry.views[name] for name in ("totals", "balances")]
    projector = Projector(registry, log, store, views)
    writer: Any = Writer({"totals": 0, "balances": records[2].position})
    await projector._resume(writer)
    await projector._transact(writer, Batch(records, records[-1].position, False))
    assert sorted(writer.asked) == [("balances", {"d"}), ("totals", {*"abcd"})]
    assert {name: {*rows} for name, rows in writer.given.items()} == {
        "balances": {"d"},
        "totals": {*"abcd"},
    }


def test_an_event_that_fails_again_on_replay_keeps_its_place() -> None:
    folding = Folding(Registry([small]), [])
    rows = [
        Parked("balances", key, f"counter-{key}", 0, at, "broken") for at, key in enumerate("abc")
    ]
    for each in rows:
        folding.park(each)
    later = Parked("balances", "a", "counter-a", 1, 3, "broken")
    folding.replayed(rows[0], [later])
    assert folding.parked == [later, *rows[1:]]
    folding.replayed(rows[1], [])
    assert folding.parked == [later, rows[2]]


@pytest.mark.parametrize("turns", range(5))
async def test_the_task_that_writes_positions_ends_even_if_somebody_begins_to_wait(
    turns: int,
) -> None:
    """Otherwise its projector would never start again, and look healthy."""
    store: Any = SimpleNamespace(name="any", writing=None)
    projector = Projector(Registry(()), MemoryLog(), store, [])
    nobody: Any = None
    async with projector._writing:  # it gets no further than that
        writing = asyncio.create_task(projector._write_passed(nobody))
        projector._pass(1)
        for _ in range(3):
            await asyncio.sleep(0)
        projector._awaited.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        ended, _ = await asyncio.wait([writing], timeout=30)
    assert ended
