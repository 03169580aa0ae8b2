"""Queries to replicas of which one is frozen or behind; the calls are real, the actors not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from projections.errors import BadCursor, Behind, ReplicaUnavailable
from projections.memory import replica_handle
from projections.memory.reader import MemoryReader
from projections.memory.replica_handle import ReplicaHandle
from projections.row_query import RowQuery, RowResult
from projections.supervision.placements import Placements
from rayfold.runtime import heartbeat
from rayfold.runtime.rpc import Address, RpcServer


class Remote:
    """What Ray's handles look like."""

    def __init__(self, call: Any) -> None:
        self.remote = call


class Actor:
    """A replica at a position."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.frozen = False
        self.is_older = False
        self.asked = 0
        self.rpc = RpcServer(self.answer)
        self.thawed = asyncio.Event()
        self.address = Remote(self.where)
        self.reached = Remote(self.come)

    async def where(self) -> Address:
        return await self.rpc.address("127.0.0.1")

    async def come(self, position: int, timeout: float) -> int:
        if self.frozen:
            await self.thawed.wait()
        await asyncio.sleep(0)
        return self.position

    async def answer(self, queries: list[Any]) -> list[Any]:
        self.asked += len(queries)
        if self.frozen:
            await self.thawed.wait()
        if self.is_older and any(RowQuery(*query).cursor for query in queries):
            return [BadCursor("not a cursor of these pages") for _ in queries]
        late = [RowQuery(*query).at_least > self.position for query in queries]
        return [tuple(RowResult(b"{}", 0, self.position, late=each)) for each in late]


class Replicas:
    """Some of them, and whoever asks them."""

    def __init__(self, *positions: int) -> None:
        self.actors = [Actor(position) for position in positions]
        self.placements = Placements()
        self.handles = self.placements.replicas = [
            ReplicaHandle(f"memory#{number}", ["order"], lambda actor=actor: actor)
            for number, actor in enumerate(self.actors)
        ]
        for handle, actor in zip(self.handles, self.actors, strict=True):
            handle.ready = True
            handle.progress.advance(actor.position)
        self.reader = MemoryReader(self.placements)

    async def ask(
        self, at_least: int = 0, timeout: float = 30.0, cursor: str | None = None
    ) -> RowResult:
        query = RowQuery("order", "a", at_least, {}, 0, cursor)
        return await self.reader.ask(query, time.monotonic() + timeout)

    async def close(self) -> None:
        for handle, actor in zip(self.handles, self.actors, strict=True):
            handle.close()
            actor.thawed.set()
            await actor.rpc.close()


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture
async def replicas(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replicas]:
    monkeypatch.setattr(replica_handle, "SILENCE", 600)  # whoever waits for a frozen one fails
    monkeypatch.setattr(heartbeat, "MISSED", 600)
    replicas = Replicas(5, 5)
    for _ in range(8):
        await replicas.ask()
    yield replicas
    await replicas.close()


async def test_a_page_that_a_replica_of_an_older_release_cannot_answer_can_be_asked_for_again(
    replicas: Replicas,
) -> None:
    """It is no mistake of the client, for whom the gateway has read the cursor."""
    older, other = replicas.actors
    older.is_older = True
    for _ in range(8):
        assert (await replicas.ask(cursor="LQ")).position == 5
    other.is_older = True
    with pytest.raises(ReplicaUnavailable, match="of a release that has no such pages"):
        await replicas.ask(cursor="LQ", timeout=0.1)


async def test_reads_go_to_another_replica_while_one_is_frozen(replicas: Replicas) -> None:
    frozen = replicas.actors[0]
    frozen.frozen = True
    assert len(await asyncio.gather(*(replicas.ask() for _ in range(32)))) == 32
    assert replicas.handles[0].silent
    asked = frozen.asked
    for _ in range(32):
        await replicas.ask()
    assert frozen.asked == asked  # it costs nothing any more
    frozen.thawed.set()
    await until(lambda: not replicas.handles[0].silent)


async def test_a_replica_that_was_slow_for_a_moment_answers_while_the_other_is_frozen(
    replicas: Replicas,
) -> None:
    frozen, slow = replicas.actors
    frozen.frozen = slow.frozen = True
    asking = asyncio.create_task(replicas.ask())
    before = frozen.asked + slow.asked
    await until(lambda: frozen.asked + slow.asked == before + 2)  # both, and neither answers
    slow.frozen = False
    slow.thawed.set()
    async with asyncio.timeout(60):
        assert (await asking).position == 5


async def test_a_token_known_only_to_a_frozen_replica_is_served_by_another(
    replicas: Replicas,
) -> None:
    frozen, other = replicas.actors
    replicas.handles[0].progress.advance(9)
    frozen.frozen, other.position = True, 9
    result = await replicas.ask(at_least=9)
    assert (result.position, result.late) == (9, False)


async def test_a_replica_that_answers_nothing_for_long_is_not_ready(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_handle, "SILENCE", 0.5)
    frozen = replicas.actors[0]
    frozen.frozen = True
    await asyncio.gather(*(replicas.ask() for _ in range(32)))
    await until(lambda: not replicas.handles[0].ready)
    assert not replicas.handles[0].silent


async def test_a_replica_that_is_cut_off_from_the_log_is_asked_when_there_is_no_other(
    replicas: Replicas,
) -> None:
    replicas.actors[1].position = 7
    replicas.handles[0].lagging = True
    assert {(await replicas.ask()).position for _ in range(32)} == {7}
    replicas.handles[1].ready = False
    assert (await replicas.ask()).position == 5
    with pytest.raises(Behind):
        await replicas.ask(at_least=7, timeout=0.3)
