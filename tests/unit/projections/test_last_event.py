"""A log restored to an earlier moment under a running replica, and one that only lags."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import count

import pytest

from eventstore.memory import MemoryLog
from projections.memory import replica as module
from projections.memory.last_event import Found, LastEvent, LogChanged, look_for
from projections.memory.replica import Replica
from rayfold import Registry
from tests.integration.projections import small
from tests.integration.projections.small import add

DEADLINE = 60.0
PREFIXES = ["counter-"]


async def log_of(*added: tuple[str, int]) -> MemoryLog:
    log = MemoryLog()
    for counter, number in added:
        await add(log, counter, number)
    return log


async def follow(replica: Replica, until: asyncio.Event | None = None) -> None:
    """Let the replica come to its log's end, or until that is so; raise what ends it."""
    replica.caught_up.clear()
    run = asyncio.create_task(replica.run())
    there = asyncio.create_task((until or replica.caught_up).wait())
    done, pending = await asyncio.wait(
        [run, there], timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED
    )
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    assert done
    for task in done:
        task.result()


async def replica_of(log: MemoryLog) -> Replica:
    replica = Replica(Registry([small]), ["totals"], log)
    await follow(replica)
    return replica


def totals(replica: Replica) -> dict[str, int]:
    return {key: json.loads(body)["total"] for key, body, _ in replica.rows("totals")}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0)


async def test_a_restored_log_that_grew_again_is_not_folded_onto_lost_rows() -> None:
    replica = await replica_of(await log_of(("a", 1), ("a", 100), ("a", 100)))
    replica._log = await log_of(("a", 1), ("b", 1), ("b", 1), ("b", 1), ("a", 5))
    with pytest.raises(LogChanged, match="2@counter-a"):
        await follow(replica)
    assert totals(replica) == {"a": 201}


async def test_a_restored_log_with_another_event_at_the_same_position_is_detected() -> None:
    replica = await replica_of(await log_of(("a", 1), ("a", 100)))
    replica._log = await log_of(("a", 1), ("a", 5))
    with pytest.raises(LogChanged):
        await follow(replica)


async def test_a_restored_log_that_does_not_grow_is_detected_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = await replica_of(await log_of(("a", 1), ("a", 100)))
    replica._log = await log_of(("a", 1))
    monkeypatch.setattr(module, "LAG", 0)
    with pytest.raises(LogChanged):
        await follow(replica)


async def test_a_node_that_lags_costs_no_rows() -> None:
    log = await log_of(("a", 1), ("a", 100))
    replica = await replica_of(log)
    asked, often = count(1), asyncio.Event()

    class Lagging(MemoryLog):
        """Ends before what was folded, whenever it is asked."""

        async def end_position(self, prefixes: Sequence[str]) -> int:
            if next(asked) == 3:
                often.set()
            return 1

    replica._log = Lagging()
    await follow(replica, often)
    assert totals(replica) == {"a": 101}
    await add(log, "a", 10)
    replica._log = log
    await follow(replica)
    assert totals(replica) == {"a": 111}


async def test_a_deleted_stream_is_not_taken_for_a_lost_one() -> None:
    log = await log_of(("b", 1), ("a", 1))
    replica = await replica_of(log)
    await log.delete_stream("counter-a")
    await add(log, "b", 1)
    await follow(replica)
    assert totals(replica) == {"b": 2}
    tombstoned = await log_of(("b", 1), ("a", 1))
    replica = await replica_of(tombstoned)
    await tombstoned.delete_stream("counter-a", tombstone=True)
    await add(tombstoned, "b", 1)
    await follow(replica)
    assert totals(replica) == {"b": 2}


async def test_the_last_event_of_a_copied_peer_is_checked_too() -> None:
    old = await log_of(("a", 1), ("a", 100))
    peer = await replica_of(old)
    position, keys, parked, stopped = peer.begin_copy()
    new = Replica(Registry([small]), ["totals"], old)
    new.tables["totals"].fill(peer.tables["totals"].export(keys["totals"]))
    new.take_over(
        position, {"totals": peer.tables["totals"].end_copy()}, parked, stopped, peer.last
    )
    new._log = await log_of(("a", 1), ("b", 1), ("b", 1))
    with pytest.raises(LogChanged):
        await follow(new)


async def test_an_event_is_distinguished_from_another_at_its_position() -> None:
    log = await log_of(("a", 1), ("a", 2))
    events = [LastEvent.of(raw) async for raw in log.read_stream("counter-a")]
    for event in events:
        assert await look_for(event, log, PREFIXES) is Found.THERE
    other = await log_of(("a", 1), ("a", 3))
    found = [await look_for(event, other, PREFIXES) for event in events]
    assert found == [Found.THERE, Found.LOST]
    assert await look_for(events[1], await log_of(("a", 1)), PREFIXES) is Found.BEYOND
    assert await look_for(events[1], await log_of(("b", 1), ("b", 1)), PREFIXES) is Found.LOST
