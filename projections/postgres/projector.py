"""A Postgres projector: folds one partition of the keys into tables, exactly once.

Rows and checkpoint are written in one transaction, and the checkpoint only from where
this projector left it: a second one of the same partition cannot commit. The transaction
does not wait for the disk: rows and checkpoint are lost together, and folded again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from eventstore.deletions import with_deletions
from eventstore.port import Log
from eventstore.records import Batch, RawRecord
from projections import discarded_events as discards
from projections.errors import UnknownTarget
from projections.folding import Folding, Step
from projections.partitions import hash_of
from projections.poison import Parked, in_status, is_refused, is_too_long
from projections.postgres import parked_events as parking
from projections.postgres import schema
from projections.postgres.checkpoints import Checkpoints
from projections.postgres.rows import Rows
from projections.postgres.runner import ProjectionRunner
from rayfold import Registry, VersionedRow, ViewDefinition

if TYPE_CHECKING:
    from projections.postgres.checkpoints import Connection

CACHED = 50_000
"""Rows kept in memory for each view, so that a live projector seldom reads."""

GATHER = 0.01
"""Seconds between two transactions: one costs a millisecond of CPU, whatever is in it."""

MOST_EVENTS = 8_000
"""In one transaction. Live, it is whatever came while the one before was written."""

_Pool = asyncpg.Pool
_Changed: TypeAlias = dict[str, VersionedRow | None]


class Projector:
    """Partition `partition` of `partitions` of some views.

    `tables` names the table of a generation in the making; others go to the live one.
    """

    def __init__(
        self,
        registry: Registry,
        store: Log,
        dsn: str,
        views: Sequence[ViewDefinition],
        partition: int = 0,
        partitions: int = 1,
        tables: Mapping[str, str] | None = None,
    ) -> None:
        self._registry = registry
        self._store = store
        self._partition = partition
        self._partitions = partitions
        self._views = list(views)
        self._rows = {view.name: Rows(view, (tables or {}).get(view.name)) for view in views}
        self._tables = {name: rows.table for name, rows in self._rows.items()}
        self._cache: dict[str, OrderedDict[str, VersionedRow]] = {}
        self._folding = Folding(registry, self._views)
        lives = [schema.live(view) for view in views]
        definitions = {
            live.name: live.fingerprint
            for live in lives
            if self._tables[live.name] == live.relation
        }
        self._checkpoints = Checkpoints(self._tables.values(), partition, partitions, definitions)
        self._pool: _Pool[asyncpg.Record] | None = None
        self._writing = asyncio.Lock()
        self.runner = ProjectionRunner(dsn, reset=_nothing)
        self.progress = self.runner.progress

    async def run(self) -> None:
        """Follow the log for ever; what breaks is tried again from the checkpoint."""
        await self.runner.run(self._follow)

    async def _follow(self, pool: _Pool[asyncpg.Record]) -> None:
        async with self._writing:  # a replay changes what is loaded here
            await self._resume(pool)
        self._pool = pool
        after = self._checkpoints.slowest or None
        subscription = self._store.subscribe(
            with_deletions(self._registry.prefixes), after, gather=GATHER
        )
        async with aclosing(self.runner.batches(subscription, MOST_EVENTS)) as batches:
            async for batch in batches:
                await self._project(pool, batch)

    async def _resume(self, pool: _Pool[asyncpg.Record]) -> None:
        self._cache = {name: OrderedDict() for name in self._rows}
        self._folding = Folding(self._registry, self._views)
        self._folding.discarded = await discards.load(self._store, self._rows)
        async with pool.acquire() as connection:
            await self._checkpoints.load(connection)
            views = {table: name for name, table in self._tables.items()}
            for parked in await parking.load(connection, views):
                self._folding.park(parked)
        self.progress.position = self._checkpoints.slowest

    async def _project(self, pool: _Pool[asyncpg.Record], batch: Batch) -> None:
        async with self._writing:
            await self._write(pool, batch)
            self.runner.events += len(batch.records)
            self.progress.advance(batch.position)

    async def _write(self, pool: _Pool[asyncpg.Record], batch: Batch) -> None:
        """Write what the batch leads to; where Postgres refuses a row, find out which.

        Halves are transactions of their own, down to the record that leads to the row; or
        down to what Postgres has the time for.
        """
        records = batch.records
        try:
            await self._transact(pool, batch)
        except Exception as error:
            if not is_refused(error) and (len(records) < 2 or not is_too_long(error)):
                raise
            if len(records) < 2:
                await self._transact(pool, batch, row_by_row=True)
                return
            middle = len(records) // 2
            first, rest = records[:middle], records[middle:]
            await self._write(pool, Batch(first, first[-1].position, False))
            await self._write(pool, Batch(rest, batch.position, batch.caught_up))

    async def _transact(
        self, pool: _Pool[asyncpg.Record], batch: Batch, *, row_by_row: bool = False
    ) -> None:
        """Write rows and checkpoints in one transaction, or nothing.

        `row_by_row`: a row that Postgres refuses is parked, the others are written.
        """
        folding = self._folding
        stopped_before = set(folding.stopped)
        try:
            steps = await self._steps(batch.records)
            to = {
                table: max(batch.position, self._checkpoints.positions[table])
                for view, table in self._tables.items()
                if view not in stopped_before
            }
            async with pool.acquire() as connection, connection.transaction():
                await self._checkpoints.move(connection, to)
                if row_by_row:
                    steps = await self._fetch_each(connection, steps)
                else:
                    await self._fetch_missing(connection, steps)
                changed, new = self._fold(steps)
                if row_by_row:
                    await self._store_each(connection, steps, changed)
                else:
                    for name, rows in changed.items():
                        await self._rows[name].store(connection, rows, new[name])
                noted = folding.take_noted()
                mine = [each for each in noted.held if self._is_mine(each.key)]
                released = [each for each in noted.released if self._is_mine(each.key)]
                await parking.erase(connection, self._tables, released)
                await parking.save(connection, self._tables, noted.parked, mine)
                for parked in noted.stopped:
                    table = self._tables[parked.view]
                    to[table] = max(parked.position - 1, self._checkpoints.positions[table])
                    await self._checkpoints.put_back(connection, {table: to[table]})
        except BaseException:
            folding.undo(folding.take_noted())
            raise
        self._checkpoints.positions.update(to)
        for name, rows in changed.items():
            self._remember(name, rows)

    def _is_mine(self, key: str) -> bool:
        """Tell whether the row is here; a stream that is parked, without a key, is the first's."""
        return (hash_of(key) if key else 0) % self._partitions == self._partition

    async def _steps(self, records: Sequence[RawRecord]) -> list[Step]:
        steps = []
        for at, raw in enumerate(records, 1):
            for step in self._folding.steps(raw):
                if self._partitions == 1 or self._is_mine(step.key):
                    steps.append(step)
            if at % 200 == 0:
                await asyncio.sleep(0)
        return steps

    async def _fetch_missing(self, connection: Connection, steps: Sequence[Step]) -> None:
        missing: dict[str, set[str]] = {}
        for step in steps:
            if step.key not in self._cache[step.view.name]:
                missing.setdefault(step.view.name, set()).add(step.key)
        for name, keys in missing.items():
            self._cache[name].update(await self._rows[name].load(connection, keys))

    async def _fetch_each(self, connection: Connection, steps: Sequence[Step]) -> list[Step]:
        """Return the steps whose rows can be read; the others are parked."""
        readable = []
        for step in steps:
            if step.erases:
                readable.append(step)
                continue
            try:
                async with connection.transaction():
                    await self._fetch_missing(connection, [step])
            except Exception as error:
                if not is_refused(error):
                    raise
                self._folding.broke(step, error, by_store=True)
            else:
                readable.append(step)
        return readable

    async def _store_each(
        self, connection: Connection, steps: Sequence[Step], changed: dict[str, _Changed]
    ) -> None:
        """Write row by row; one that is refused is parked, and stays as it was."""
        last = {(step.view.name, step.key): step for step in steps}
        for name, rows in changed.items():
            for key, row in list(rows.items()):
                try:
                    async with connection.transaction():
                        await self._rows[name].store(connection, {key: row})
                except Exception as error:
                    if not is_refused(error):
                        raise
                    del rows[key]
                    self._folding.broke(last[name, key], error, by_store=True)

    def _fold(self, steps: Sequence[Step]) -> tuple[dict[str, _Changed], dict[str, set[str]]]:
        """Rows that changed, and the keys of those that the tables do not have yet."""
        changed: dict[str, _Changed] = {}
        new: dict[str, set[str]] = {}
        positions = self._checkpoints.positions
        for step in steps:
            name, key = step.view.name, step.key
            if step.event.position <= positions[self._tables[name]]:
                continue
            rows = changed.setdefault(name, {})
            if key in rows:
                before = rows[key]
            else:
                before = self._cache[name].get(key)
                if before is None and not step.erases:
                    new.setdefault(name, set()).add(key)
            after = self._folding.fold(step, before)
            if after is not before or step.erases:
                rows[key] = after
        return changed, {name: new.get(name, set()) for name in changed}

    def _remember(self, name: str, rows: _Changed) -> None:
        cache = self._cache[name]
        for key, row in rows.items():
            if row is None:
                cache.pop(key, None)
            else:
                cache[key] = row
                cache.move_to_end(key)
        while len(cache) > CACHED:
            cache.popitem(last=False)

    async def replay(self, view: str, key: str) -> bool:
        """Fold a row's parked event again, and what waits behind it; False if it broke again.

        An event that was discarded meanwhile is left out: see `projections.discards`.

        Raises:
            UnknownTarget: the row is not parked here.
            StoreUnavailable, asyncpg.PostgresError: not done, nothing has changed.
        """
        async with self._writing:
            parked = next((p for p in self._folding.parked if (p.view, p.key) == (view, key)), None)
            if parked is None or self._pool is None:
                raise UnknownTarget(f"no row of {view!r} is parked under {key!r}")
            rows = self._rows[view]
            folding = Folding(self._registry, [rows.view])
            folding.discarded = await discards.load(self._store, [view])
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    held = await parking.release(connection, rows.table, parked)
                    row = (await rows.load(connection, [key])).get(key)
                    async for raw in parking.events(self._store, [parked, *held]):
                        for step in folding.steps(raw):
                            if step.key == key:
                                row = folding.fold(step, row)
                    await rows.store(connection, {key: row})
                    noted = folding.take_noted()
                    await parking.save(connection, self._tables, noted.parked, noted.held)
            except Exception as error:
                if not is_refused(error):
                    raise
                return False  # Postgres does not take it now either
            self._folding.release(parked)
            for again in folding.parked:
                self._folding.park(again)
            self._remember(view, {key: row})
            return not folding.parked

    def parked(self) -> list[Parked]:
        """Return rows of this partition, and streams, that are parked; and views that stopped."""
        mine = [parked for parked in self._folding.parked if self._is_mine(parked.key)]
        return [*mine, *self._folding.stopped.values()]

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        stopped = {view: parked.error for view, parked in self._folding.stopped.items()}
        parked = self.parked()
        return self.runner.status(
            list(self._rows),
            parked=len(parked),
            left_out=self._folding.left_out,
            **in_status(parked),
            **({"stopped": stopped} if stopped else {}),
        )


async def _nothing(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """No statement here changes a session, so none has to be asked back before its next use."""
