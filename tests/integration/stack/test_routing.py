"""The routing table: written by the owner alone, followed by whoever listens or polls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from deploy.stack import routing
from deploy.stack.identity import identify
from deploy.stack.lease import Lease
from deploy.stack.routing import Routing, RoutingFollower, RoutingPublisher
from rayfold.runtime.postgres import connect

PATIENCE = 60.0


@pytest.fixture
async def postgres(server: str) -> AsyncIterator[str]:
    """Return the DSN of a database with a stack of which nobody is the owner."""
    connection = await connect(server)
    await connection.execute("DROP TABLE IF EXISTS rayfold_stack, rayfold_wanted, rayfold_routing")
    assert await routing.read(connection) is None
    await identify(connection, "shop", "s1", "id1", "domain")
    yield server
    await connection.close()


async def owner(dsn: str, name: str) -> int:
    lease = Lease(dsn, name, "here")
    await lease.take("domain")
    await lease.release()
    return lease.epoch


async def table(dsn: str) -> Routing | None:
    connection = await connect(dsn)
    try:
        return await routing.read(connection)
    finally:
        await connection.close()


async def test_an_owner_publishes_changes_and_the_previous_owner_cannot(postgres: str) -> None:
    document: dict[str, Any] = {"write": [1]}
    first = RoutingPublisher(postgres, await owner(postgres, "a"), lambda: document)
    assert await first.publish()
    assert await first.publish()
    assert await table(postgres) == Routing(1, 1, {"write": [1]})
    document["write"] = [1, 2]
    assert await first.publish()
    assert await table(postgres) == Routing(1, 2, {"write": [1, 2]})
    second = RoutingPublisher(postgres, await owner(postgres, "b"), lambda: {"write": []})
    document["write"] = [3]
    assert not await first.publish()  # not even before the second has published
    assert await second.publish()
    assert not await first.publish()
    assert await table(postgres) == Routing(2, 3, {"write": []})


async def test_followers_see_each_change_by_a_notice_or_by_a_poll(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"write": 0}
    publisher = RoutingPublisher(postgres, await owner(postgres, "a"), lambda: document)
    assert await publisher.publish()
    before = await table(postgres)
    assert before is not None
    for poll, listens in ((3600.0, True), (0.05, False)):
        monkeypatch.setattr(routing, "POLL", poll)
        if not listens:
            monkeypatch.setattr(asyncpg.Connection, "add_listener", _deaf)
        seen: asyncio.Queue[Routing] = asyncio.Queue()
        follower = RoutingFollower(postgres, before, seen.put_nowait)
        following = asyncio.create_task(follower.run())
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):  # the first may be found at the beginning, the second is told of
                document = {"write": document["write"] + 1}
                await publisher.publish()
                before = await seen.get()
                assert before.document == document
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def test_a_follower_keeps_its_table_while_postgres_is_away(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "POLL", 0.05)
    seen: list[Routing] = []
    follower = RoutingFollower("postgresql://127.0.0.1:1/none", Routing(1, 7, {}), seen.append)
    following = asyncio.create_task(follower.run())
    for _ in range(int(PATIENCE / 0.01)):
        if follower.error is not None:
            break
        await asyncio.sleep(0.01)
    assert follower.error is not None
    assert (follower.routing.version, seen) == (7, [])
    following.cancel()


async def _deaf(*_: Any) -> None:
    """Listen to nothing, as behind a pooler in transaction mode."""


async def test_a_table_lost_in_a_failover_of_postgres_is_published_again_with_a_newer_version(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a new gateway would follow an old table, and a running one no later table."""
    monkeypatch.setattr(routing, "CHECK", 0.1, raising=False)
    document: dict[str, Any] = {}
    publisher = RoutingPublisher(postgres, await owner(postgres, "a"), lambda: document)
    for hosts in (1, 2, 3):
        document["write"] = hosts
        assert await publisher.publish()
    last = await table(postgres)
    assert last == Routing(1, 3, {"write": 3})
    connection = await connect(postgres)
    await connection.execute(
        """UPDATE rayfold_routing SET version = 1, document = '{"write": 1}'"""
    )
    await connection.close()
    followed: asyncio.Queue[Routing] = asyncio.Queue()
    tasks = [
        asyncio.create_task(RoutingFollower(postgres, last, followed.put_nowait).run()),
        asyncio.create_task(publisher.run()),
    ]
    try:
        async with asyncio.timeout(PATIENCE / 6):
            assert await followed.get() == Routing(1, 4, {"write": 3})
            document["write"] = 4
            assert await followed.get() == Routing(1, 5, {"write": 4})
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
