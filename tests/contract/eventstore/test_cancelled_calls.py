"""Whoever is cancelled while the store goes away ends, and does not try again for ever."""

from __future__ import annotations

import asyncio
import random

import pytest

from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.log import EventLog
from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from tests.ports import free_port

DEADLINE = 20.0
"""Seconds for a task to end."""

TRIES = 60


@pytest.fixture
def nobody() -> str:
    """The address of a server that has gone away."""
    return f"kurrentdb://127.0.0.1:{free_port()}?Tls=false"


async def test_a_call_that_has_failed_already_hides_no_cancellation(nobody: str) -> None:
    """`grpc.aio` tells then of the failure alone, and its caller would begin the next call."""
    groups, log = PersistentSubscriptions(nobody), EventLog(nobody)

    async def ask_always(ask: object) -> None:
        while True:
            try:
                await ask()  # type: ignore[operator]
            except StoreUnavailable:
                await asyncio.sleep(0)

    chance = random.Random(1)
    for _ in range(TRIES):
        tasks = [
            asyncio.create_task(ask_always(lambda: groups.position("a"))),
            asyncio.create_task(ask_always(lambda: log.end_position(None))),
        ]
        await asyncio.sleep(chance.uniform(0, 0.05))
        for task in tasks:
            task.cancel()
        _, running = await asyncio.wait(tasks, timeout=DEADLINE)
        assert not running
    await groups.close()
    await log.close()
