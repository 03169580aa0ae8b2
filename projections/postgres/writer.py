"""Writing one partition of some tables, with fenced transactions.

Rows and checkpoint are written in one transaction, and the checkpoint only if it is still where
this writer left it: a second writer of the same partition cannot commit. The transaction does not
wait for the disk: in a crash, rows and checkpoint are lost together, and folded again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

from projections.poison import Held, Parked
from projections.postgres import parked_events as parking
from projections.postgres import schema
from projections.postgres.checkpoints import Checkpoints
from projections.postgres.connections import Pool
from projections.postgres.rows import Rows
from rayfold import VersionedRow, ViewDefinition

if TYPE_CHECKING:
    from projections.postgres.checkpoints import Connection

LOOK = 5.0
"""Seconds between checks that these generations are still live, while nothing is written."""


class PostgresWriter:
    """See `Writer`; `generations` has tables being built, by view; for others, the live table is
    written.
    """

    def __init__(
        self,
        pool: Pool,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        generations: Mapping[str, str],
    ) -> None:
        self._pool = pool
        self.rows = {view.name: Rows(view, generations.get(view.name)) for view in views}
        self.tables = {name: rows.table for name, rows in self.rows.items()}
        lives = [schema.live(view) for view in views]
        definitions = {
            live.name: live.fingerprint for live in lives if self.tables[live.name] == live.relation
        }
        self._checkpoints = Checkpoints(self.tables.values(), partition, partitions, definitions)
        self.positions: dict[str, int] = {}

    async def open(self) -> list[Parked]:
        """See `Writer.open`."""
        async with self._pool.acquire() as connection:
            await self._checkpoints.load(connection)
            views = {table: name for name, table in self.tables.items()}
            parked = await parking.load(connection, views)
        found = self._checkpoints.positions
        self.positions = {name: found[table] for name, table in self.tables.items()}
        return parked

    @asynccontextmanager
    async def transaction(self, to: Mapping[str, int]) -> AsyncIterator[PostgresTransaction]:
        """See `Writer.transaction`."""
        positions = self._checkpoints.positions
        moved = {self.tables[view]: at for view, at in to.items() if at > self.positions[view]}
        async with self._pool.acquire() as connection, connection.transaction():
            await self._checkpoints.move(connection, moved)
            yield PostgresTransaction(connection, self, self._checkpoints, moved)
        positions.update(moved)
        self.positions.update({view: positions[self.tables[view]] for view in to})

    async def caught_up(self) -> None:
        """See `Writer.caught_up`: rows of a table are never lost without its checkpoint."""

    async def lost(self) -> None:
        """See `Writer.lost`: another generation may have become live while nothing was written.

        What Postgres has lost stays lost until an operator restores it.
        """
        while True:
            await asyncio.sleep(LOOK)
            async with self._pool.acquire() as connection:
                await self._checkpoints.check(connection)


class PostgresTransaction:
    """See `Transaction`."""

    def __init__(
        self,
        connection: Connection,
        writer: PostgresWriter,
        checkpoints: Checkpoints,
        moved: dict[str, int],
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._checkpoints = checkpoints
        self._moved = moved
        self._held: set[str] = set()

    async def _hold(self, views: Iterable[str]) -> None:
        """Check for fencing also if no checkpoint moves, as in a replay.

        This comes before any access to a table: a switch that has locked the checkpoint waits for
        the table.
        """
        for table in {self._writer.tables[view] for view in views} - self._moved.keys():
            if table not in self._held:
                await self._checkpoints.hold(self._connection, table)
                self._held.add(table)

    async def load(self, view: str, keys: Collection[str]) -> dict[str, VersionedRow]:
        """See `Transaction.load`."""
        await self._hold([view])
        return await self._writer.rows[view].load(self._connection, keys)

    async def store(
        self,
        view: str,
        rows: Mapping[str, VersionedRow | None],
        before: Mapping[str, VersionedRow],
        new: Collection[str] = (),
    ) -> None:
        """See `Transaction.store`; Postgres maintains its indexes without `before`."""
        if rows:
            await self._hold([view])
        await self._writer.rows[view].store(self._connection, rows, new)

    def savepoint(self) -> AbstractAsyncContextManager[Any]:
        """See `Transaction.savepoint`."""
        return self._connection.transaction()

    async def park(self, parked: Collection[Parked], held: Collection[Held]) -> None:
        """See `Transaction.park`."""
        await self._hold([each.view for each in parked] + [each.view for each in held])
        await parking.save(self._connection, self._writer.tables, parked, held)

    async def release(self, parked: Parked) -> list[Held]:
        """See `Transaction.release`."""
        await self._hold([parked.view])
        table = self._writer.tables[parked.view]
        return await parking.release(self._connection, table, parked)

    async def forget(self, parked: Collection[Parked]) -> None:
        """See `Transaction.forget`."""
        await self._hold([each.view for each in parked])
        await parking.erase(self._connection, self._writer.tables, parked)

    async def put_back(self, view: str, position: int) -> None:
        """See `Transaction.put_back`."""
        await self._hold([view])
        table = self._writer.tables[view]
        self._moved[table] = position
        await self._checkpoints.put_back(self._connection, {table: position})
