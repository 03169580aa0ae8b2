"""A store whose connection is lost while something is written, and a log that repeats itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from eventstore.memory import MemoryLog
from eventstore.records import Batch, RawRecord
from projections.stores.port import ReadStore, Transaction, Writer


class Cut(ConnectionError):
    """Nobody knows what became of it."""


class Cuts:
    """When connections are lost: each of `plan` is for one transaction, in turn.

    "before" loses what was written, "after" only the word that it was; anything else is well.
    """

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.done = 0
        self.transactions = 0

    def next(self) -> str:
        """Return what becomes of this transaction."""
        found = self.plan.pop(0) if self.plan else ""
        self.done += found in ("before", "after")
        self.transactions += 1
        return found

    def wrap(self, store: ReadStore) -> ReadStore:
        """Return a store that is cut."""
        return CutStore(store, self)  # type: ignore[return-value]


class CutStore:
    """Gives writers that are cut."""

    def __init__(self, store: ReadStore, cuts: Cuts) -> None:
        self._store = store
        self._cuts = cuts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def writing(self, *arguments: Any) -> AsyncIterator[CutWriter]:
        async with self._store.writing(*arguments) as writer:
            yield CutWriter(writer, self._cuts)


class CutWriter:
    """Loses its connection when it is told to."""

    def __init__(self, writer: Writer, cuts: Cuts) -> None:
        self._writer = writer
        self._cuts = cuts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    @asynccontextmanager
    async def transaction(self, to: Mapping[str, int]) -> AsyncIterator[Transaction]:
        fate = self._cuts.next()
        async with self._writer.transaction(to) as transaction:
            yield transaction
            if fate == "before":
                raise Cut("before it was written")
        if fate == "after":
            raise Cut("after it was written")


class Refusing:
    """A store that takes no names of thousands of letters."""

    def __init__(self, store: ReadStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def writing(self, *arguments: Any) -> AsyncIterator[Any]:
        async with self._store.writing(*arguments) as writer:
            whole = writer.transaction

            @asynccontextmanager
            async def transaction(to: Mapping[str, int]) -> AsyncIterator[Transaction]:
                async with whole(to) as transaction:
                    store = transaction.store

                    async def refusing(view: str, rows: Mapping[str, Any], *more: Any) -> None:
                        names = [getattr(each.row, "name", "") for each in rows.values() if each]
                        if any(len(name) > 4_000 for name in names):
                            raise ValueError("a name of thousands of letters")
                        await store(view, rows, *more)

                    transaction.store = refusing  # type: ignore[method-assign]
                    yield transaction

            writer.transaction = transaction
            yield writer


class RepeatingLog(MemoryLog):
    """Begins too early, and delivers the last of each batch again with the next one."""

    async def subscribe(
        self,
        prefixes: Sequence[str],
        after: int | None,
        *,
        gather: float = 0.0,
        event_types: Sequence[str] = (),
    ) -> AsyncGenerator[Batch, None]:
        early = max((after or 0) - 3, 0) or None
        last: list[RawRecord] = []
        async with aclosing(super().subscribe(prefixes, early, gather=gather)) as batches:
            async for batch in batches:
                yield batch._replace(records=[*last, *batch.records])
                last = [*last, *batch.records][-3:]


class QuietLog(MemoryLog):
    """Says nothing of streams that were not asked for, and nothing at all while it is held."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def subscribe(
        self, prefixes: Sequence[str], after: int | None, **options: Any
    ) -> AsyncGenerator[Batch, None]:
        self.asked = list(prefixes)
        position, said = after or 0, False
        async with aclosing(super().subscribe(prefixes, after, **options)) as batches:
            async for batch in batches:
                await self.goes_on.wait()
                if batch.records or not said:
                    said = True
                    position = batch.records[-1].position if batch.records else position
                    yield Batch(batch.records, position, True)
