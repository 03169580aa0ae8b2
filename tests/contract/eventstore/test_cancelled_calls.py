"""A call that is cancelled while the store goes down ends, and is not retried for ever."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from kurrentdbclient.streams import AsyncReadResponse

from eventstore.errors import StoreUnavailable
from eventstore.kurrentdb.log import EventLog
from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from tests.contract.eventstore.process import ServerProcess
from tests.ports import free_port

DEADLINE = 20.0
"""Seconds for a task to end."""

TRIES = 60


@pytest.fixture
def nobody() -> str:
    """The address of a server that has gone away."""
    return f"kurrentdb://127.0.0.1:{free_port()}?Tls=false"


async def test_a_call_that_is_cancelled_just_as_it_fails_is_cancelled(nobody: str) -> None:
    """`grpc.aio` reports only the failure then, and its caller would begin the next call."""
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


async def test_a_call_that_is_cancelled_just_as_a_read_ends_is_cancelled(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client waits for its own reader then, and ignores a cancellation meanwhile."""
    log = EventLog(server.uri)
    await log.end_position(None)
    stop = AsyncReadResponse.stop

    async def cancelled_meanwhile(reading: AsyncReadResponse, **options: Any) -> None:
        if not reading._is_context_manager_active:
            asyncio.get_running_loop().call_soon(asking.cancel)
        await stop(reading, **options)

    monkeypatch.setattr(AsyncReadResponse, "stop", cancelled_meanwhile)
    asking = asyncio.create_task(log.end_position(None))
    await asyncio.wait([asking], timeout=DEADLINE)
    assert asking.cancelled()
    await log.close()
