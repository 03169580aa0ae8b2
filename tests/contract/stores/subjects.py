"""Stores as the contract drives them: one in memory, and any that is behind the port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol
from uuid import uuid4

from eventstore.folded_log import FoldedLog
from eventstore.memory import MemoryLog
from projections.errors import Behind
from projections.memory.replica import Replica
from projections.poison import Parked
from projections.row_query import RowQuery, RowResult, Snapshot
from projections.stores.port import Place, ReadStore
from projections.stores.projector import Projector
from projections.stores.reader import StoreReader
from projections.stores.rebuild import enough, reaches
from projections.stores.supervisor import ViewBuilding
from projections.supervision.placements import Placements
from projections.supervision.progress import Progress
from rayfold import Registry

TIMEOUT = 60.0
"""Seconds for whatever has to happen at last."""


class Subject(Protocol):
    """A store, with what fills it from a log."""

    name: str
    durable: bool
    registry: Registry

    async def ask(self, query: RowQuery, timeout: float = TIMEOUT) -> RowResult:
        """Ask as a gateway does."""
        ...

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """Return what `verify` compares."""
        ...

    async def rebuild(self, view: str) -> None:
        """Fold a view again, beside what serves, and switch."""
        ...

    async def reached(self, position: int) -> None:
        """Return when all has come so far."""
        ...

    def parked(self) -> list[Parked]:
        """Return what is parked."""
        ...


def pace(subject: Subject) -> float:
    """Return seconds between two events that a store for tests keeps up with: moto's is slow."""
    return 0.03 if subject.name == "dynamodb" else 0.001


class InMemory:
    """A memory replica."""

    name = "memory"
    durable = False

    def __init__(self, log: MemoryLog, registry: Registry) -> None:
        self.registry = registry
        self.replica = Replica(registry, list(registry.views), log)

    async def run(self) -> None:
        await self.replica.run()

    async def ask(self, query: RowQuery, timeout: float = TIMEOUT) -> RowResult:
        deadline = time.monotonic() + timeout
        while True:
            [answer] = self.replica.answer([query])
            if isinstance(answer, Exception):
                raise answer
            if not answer.late:
                return answer
            left = deadline - time.monotonic()
            if not await self.replica.progress.reached(query.at_least, left):
                raise Behind(query.view, answer.position, query.at_least)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        return self.replica.snapshot(view, queries)

    async def rebuild(self, view: str) -> None:
        await self.replica.rebuild(view)

    async def reached(self, position: int) -> None:
        assert await self.replica.progress.reached(position, TIMEOUT)

    def parked(self) -> list[Parked]:
        return [*self.replica.parked()]


class Durable:
    """A store behind the port, with a projector for each partition, all in this process."""

    durable = True

    def __init__(
        self,
        log: MemoryLog,
        registry: Registry,
        make: Callable[[], ReadStore],
        wrapped: Callable[[ReadStore], ReadStore] = lambda store: store,
    ) -> None:
        """`wrapped` is put around what projectors write to."""
        self.log = log
        self.registry = registry
        self.make = make
        self.store = make()
        self.name = self.store.name
        self.views = list(registry.views.values())
        self._wrapped = wrapped
        self.reader = StoreReader(self.store, Placements())
        self.projectors: list[Projector] = []
        self._running: list[asyncio.Task[None]] = []

    async def start(self, partitions: int = 1) -> None:
        """Prepare, and let projectors work."""
        wanted = {view.name: partitions for view in self.views}
        assert await self.store.generations.prepare(self.views, wanted) == []
        self.begin(partitions)

    def begin(self, partitions: int = 1) -> list[Projector]:
        """Let more projectors work: others of the same partitions are their rivals."""
        new = [self.projector(at, partitions) for at in range(partitions)]
        self.projectors += new
        self._running += [asyncio.create_task(each.run()) for each in new]
        return new

    def projector(
        self, partition: int, partitions: int, generations: Mapping[str, str] | None = None
    ) -> Projector:
        views = [view for view in self.views if not generations or view.name in generations]
        store = self._wrapped(self.make())
        return Projector(self.registry, self.log, store, views, partition, partitions, generations)

    async def end(self) -> None:
        """Kill all projectors."""
        running, self._running, self.projectors = self._running, [], []
        await _cancelled(running)

    async def close(self) -> None:
        await self.end()
        await self.store.close()

    async def cut(self, partitions: int) -> None:
        """Cut the keys anew, as `rayfold scale` does: the new ones wait in front of the fence."""
        before, running = self.projectors, self._running
        self.projectors, self._running = [], []
        self.begin(partitions)
        await self.store.generations.partition(self.views, partitions)
        assert before
        await _cancelled(running)

    async def ask(self, query: RowQuery, timeout: float = TIMEOUT) -> RowResult:
        return await self.reader.ask(query, time.monotonic() + timeout)

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        return await self.reader.snapshot(view, queries)

    async def rebuild(self, view: str) -> None:
        async with self.built(view) as (builder, beside):
            folded, here = FoldedLog(self.log, self.registry.prefixes), Here(builder.progress)
            there = await reaches(here, await beside.finish(), folded)
            await beside.switch(partial(enough, here, None if there else folded))
            for each in self.projectors:
                await each.runner.renew(view)

    @asynccontextmanager
    async def built(self, view: str) -> AsyncIterator[tuple[Projector, ViewBuilding]]:
        """A generation that has come to the log's end, beside the live one."""
        declared, generations = self.registry.views[view], self.store.generations
        generation = await generations.begin(declared)
        builder = self.projector(0, 1, {view: generation})
        building = asyncio.create_task(builder.run())
        try:
            async with asyncio.timeout(TIMEOUT):
                await builder.runner.ready.wait()
            yield builder, ViewBuilding(generations, declared, generation)
        finally:
            await _cancelled([building])
            await generations.discard(declared, generation)

    async def reached(self, position: int) -> None:
        async with asyncio.timeout(TIMEOUT):
            for each in self.projectors:
                await each.runner.ready.wait()
                # Not its word: what the store says, which may have lost it meanwhile.
                while not await each.progress.reached(position, 0.1) or each.runner.error:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    def parked(self) -> list[Parked]:
        return [parked for each in self.projectors for parked in each.parked()]


class Here:
    """A builder as its owner has it: in this process."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    async def reached(self, position: int, deadline: float) -> bool:
        return await self.progress.reached(position, deadline - time.monotonic())


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def running(subject: Any, partitions: int = 1) -> AsyncIterator[Any]:
    """The subject, filled by its projectors or by itself."""
    if isinstance(subject, Durable):
        await subject.start(partitions)
        try:
            yield subject
        finally:
            await subject.close()
    else:
        task = asyncio.create_task(subject.run())
        try:
            yield subject
        finally:
            await _cancelled([task])


def place(url: str) -> Place:
    """A store of nobody else's."""
    return Place(url, uuid4().hex[:8])
