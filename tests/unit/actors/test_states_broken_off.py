"""Work on stored states ends before its caller gets an error."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from actors.errors import StreamUnreadable
from actors.host.state import postgres
from actors.host.state.filling import fill
from actors.host.state.memory import MemoryStates
from actors.host.state.port import Kept, StatesUnavailable
from actors.host.state.postgres import PostgresStates
from actors.host.state.storage import StateStorage
from actors.host.state.verification import verify_states
from domain.customers.customer import Customer
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from rayfold import Registry
from rayfold.aggregate import AggregateType

BROKEN, SLOW = Customer.stream("broken"), Customer.stream("slow")
PATIENCE = 30.0


class Work:
    """On two aggregates: one breaks once the other is at work, and that takes time to undo it."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.begun, self.undoing, self.let_go = (asyncio.Event() for _ in range(3))
        self.undone = False

    async def on(self, stream: str) -> Any:
        """Work on one of them."""
        if stream == BROKEN:
            await self.begun.wait()
            raise self._error
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.undoing.set()
            await self.let_go.wait()
            self.undone = True

    async def is_undone(self, task: asyncio.Task[Any]) -> None:
        """Wait until that has begun, and see that `task` waits for it."""
        undoing = asyncio.create_task(self.undoing.wait())
        await asyncio.wait([undoing, task], return_when=asyncio.FIRST_COMPLETED)
        undoing.cancel()
        if task.done():
            self.let_go.set()  # else the loop would wait for it, and nobody learn of this
        assert not task.done()


@pytest.fixture
def registry() -> Registry:
    """The reference domain, whose customers are kept as rows."""
    return Registry.load("domain")


@pytest.fixture
async def filling(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> tuple[Work, list[bool], asyncio.Task[int]]:
    """Rows being written; whether all was undone when their storage was closed."""
    log, work, closed = MemoryLog(), Work(StreamUnreadable("it cannot be folded")), []
    for stream in (BROKEN, SLOW):
        record = NewRecord("CustomerRegistered", b"{}", {}, str(uuid4()))
        await log.append([StreamAppend(stream, None, [record])])

    async def one(storage: StateStorage, aggregate: AggregateType, stream: str, **_: bool) -> Any:
        return await work.on(stream)

    async def close(storage: StateStorage) -> None:
        closed.append(work.undone)

    monkeypatch.setattr(StateStorage, "fill", one)
    monkeypatch.setattr(StateStorage, "close", close)
    task = asyncio.create_task(fill(registry, log, MemoryStates(), Customer))
    return work, closed, task


async def test_writes_of_other_rows_are_waited_for_if_one_row_fails(
    filling: tuple[Work, list[bool], asyncio.Task[int]],
) -> None:
    work, closed, task = filling
    async with asyncio.timeout(PATIENCE):
        await work.is_undone(task)
        work.let_go.set()
        with pytest.raises(StreamUnreadable):
            await task
    assert closed == [True]


async def test_writes_of_rows_are_waited_for_however_often_the_task_is_cancelled(
    filling: tuple[Work, list[bool], asyncio.Task[int]],
) -> None:
    work, closed, task = filling
    async with asyncio.timeout(PATIENCE):
        await work.is_undone(task)
        for _ in range(3):
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        await work.is_undone(task)
        work.let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert closed == [True]


async def test_comparisons_of_other_rows_are_cancelled_if_one_row_fails(
    registry: Registry,
) -> None:
    work = Work(StatesUnavailable("Postgres is gone"))

    class States(MemoryStates):
        """Two rows."""

        async def ids(self, aggregate: AggregateType, after: str, limit: int) -> list[str]:
            return ["broken", "slow"]

        async def load(self, aggregate: AggregateType, stream: str) -> Kept | None:
            kept: Kept | None = await work.on(stream)
            return kept

    verifying = asyncio.create_task(verify_states(registry, MemoryLog(), States()))
    async with asyncio.timeout(PATIENCE):
        await work.is_undone(verifying)
        work.let_go.set()
        with pytest.raises(StatesUnavailable, match="is gone"):
            await verifying
    assert work.undone


async def test_a_pool_closed_while_it_opens_does_not_stay_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opening, let_go, terminated = asyncio.Event(), asyncio.Event(), []

    class Acquired:
        """A connection."""

        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None: ...

    pool = SimpleNamespace(acquire=Acquired, terminate=lambda: terminated.append(True))

    async def create_pool(*_: object, **__: object) -> Any:
        return pool

    async def prepare(*_: object) -> dict[AggregateType, int]:
        opening.set()
        await let_go.wait()
        return {}

    monkeypatch.setattr(postgres, "create_pool", create_pool)
    monkeypatch.setattr(postgres, "prepare", prepare)
    states = PostgresStates("postgresql://127.0.0.1:1/x")
    preparing = asyncio.create_task(states.prepare([]))
    async with asyncio.timeout(PATIENCE):
        await opening.wait()
        await states.close()
        let_go.set()
        with pytest.raises(StatesUnavailable, match="was closed"):
            await preparing
    assert terminated == [True]
