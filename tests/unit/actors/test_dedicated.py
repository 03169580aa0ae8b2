"""What is said of aggregates that have an actor each."""

from __future__ import annotations

from typing import Any

from actors.placement.dedicated import Dedicated
from actors.placement.host_client import HostClient


def nowhere(stream: str) -> HostClient:
    def make() -> Any:
        raise AssertionError(stream)

    return HostClient(make)


async def removed(client: HostClient) -> None:
    pass


async def test_a_silent_actor_counts_while_somebody_waits_for_it() -> None:
    dedicated = Dedicated(nowhere, removed, capacity=2, idle_timeout=60)
    client = await dedicated.client_of("item-tea")
    client.error = "TimeoutError"
    client.outstanding = 1
    assert [part["ready"] for part in await dedicated.status()] == [False]
    client.outstanding = 0
    assert [part["ready"] for part in await dedicated.status()] == [True]
