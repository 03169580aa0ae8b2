"""A consumer that leaves a group leaves no task running."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from tests.own_loop import own_loop


class Silent:
    """A subscription that is given nothing, and is slow to stop."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()

    def __aiter__(self) -> Silent:
        return self

    async def __anext__(self) -> Any:
        await asyncio.Event().wait()

    async def stop(self, **_: Any) -> None:
        """Wait for ever."""
        self.stopping.set()
        await asyncio.Event().wait()


@own_loop
async def test_a_consumer_cancelled_while_it_leaves_receives_no_more() -> None:
    subscription, before = Silent(), asyncio.all_tasks()
    groups = PersistentSubscriptions("kdb://127.0.0.1:1?Tls=false")

    async def subscribed(*_: Any, **__: Any) -> Silent:
        return subscription

    groups._client = SimpleNamespace(read_subscription_to_all=subscribed)  # type: ignore[assignment]

    async def consume() -> None:
        async with groups.join("readers"):
            pass

    consuming = asyncio.create_task(consume())
    await asyncio.wait_for(subscription.stopping.wait(), 30)
    consuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consuming
    assert not asyncio.all_tasks() - before
