"""Who follows which rows at a replica, and who no longer does."""

from __future__ import annotations

import asyncio

import pytest

from projections.memory import subscriptions
from projections.memory.subscriptions import Subscriptions

ROW, OTHER = ("orders", "a"), ("orders", "b")


async def test_a_watcher_gets_its_rows_at_first_and_when_they_change() -> None:
    watches = Subscriptions()
    watches.follow("one", [ROW])
    assert await watches.changes("one", 60) == {ROW}
    watches.note(*OTHER)
    assert await watches.changes("one", 0) == set()
    watches.note(*ROW)
    assert await watches.changes("one", 60) == {ROW}


async def test_an_unknown_watcher_is_told_so() -> None:
    watches = Subscriptions()
    assert await watches.changes("one", 60) is None
    watches.follow("one", [ROW])
    watches.follow("one", [])
    assert await watches.changes("one", 60) is None


async def test_a_gateway_that_no_longer_asks_is_dropped_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watches = Subscriptions()
    watches.follow("dead", [ROW])
    watches.follow("alive", [OTHER])
    await watches.changes("alive", 60)
    watches.forget_gone()
    assert await watches.changes("dead", 60) == {ROW}  # it asked a moment ago
    asking = asyncio.create_task(watches.changes("alive", 60))
    await asyncio.sleep(0)
    monkeypatch.setattr(subscriptions, "FORGOTTEN", -1.0)
    watches.forget_gone()
    assert await watches.changes("dead", 60) is None
    watches.note(*ROW)  # costs nothing any more, and is no change for the other
    assert not asking.done()
    watches.note(*OTHER)
    assert await asking == {OTHER}
