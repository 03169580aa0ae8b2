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
from typing import TYPE_CHECKING, Any

import asyncpg

from eventstore.port import Log
from eventstore.records import Batch, RawRecord
from projections import discarded_events as discards
from projections.errors import UnknownTarget
from projections.folding import Folding, Parked, Step
from projections.partitions import hash_of
from projections.postgres import parked_events as parking
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
        self._checkpoints = Checkpoints(self._tables.values(), partition, partitions)
        self._pool: _Pool[asyncpg.Record] | None = None
        self._writing = asyncio.Lock()
        self.following = ProjectionRunner(dsn, reset=_nothing)
        self.progress = self.following.progress

    async def run(self) -> None:
        """Follows the log for ever; what breaks is tried again from the checkpoint."""
        await self.following.run(self._follow)

    async def _follow(self, pool: _Pool[asyncpg.Record]) -> None:
        await self._resume(pool)
        self._pool = pool
        after = self._checkpoints.slowest or None
        subscription = self._store.subscribe(self._registry.prefixes, after, gather=GATHER)
        async with aclosing(self.following.batches(subscription, MOST_EVENTS)) as batches:
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
            folding = self._folding
            parked_before, stopped_before = len(folding.parked), set(folding.stopped)
            steps = await self._steps(batch.records)
            to = {
                table: max(batch.position, self._checkpoints.positions[table])
                for view, table in self._tables.items()
                if view not in stopped_before
            }
            async with pool.acquire() as connection, connection.transaction():
                await self._checkpoints.move(connection, to)
                await self._fetch_missing(connection, steps)
                changed, new = self._fold(steps)
                for name, entries in changed.items():
                    await self._rows[name].store(connection, entries, new[name])
                held, folding.held = folding.held, []
                parked = folding.parked[parked_before:]
                mine = [each for each in held if self._is_mine(each.key)]
                await parking.save(connection, self._tables, parked, mine)
                for view in folding.stopped.keys() - stopped_before:
                    table, at = self._tables[view], folding.stopped[view].position - 1
                    to[table] = max(at, self._checkpoints.positions[table])
                    await self._checkpoints.put_back(connection, {table: to[table]})
            self._checkpoints.positions.update(to)
            for name, entries in changed.items():
                self._remember(name, entries)
            self.following.events += len(batch.records)
            self.progress.advance(batch.position)

    def _is_mine(self, key: str) -> bool:
        """A stream that is parked has no key: the first partition counts it."""
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

    def _fold(
        self, steps: Sequence[Step]
    ) -> tuple[dict[str, dict[str, VersionedRow | None]], dict[str, set[str]]]:
        """Rows that changed, and the keys of those that the tables do not have yet."""
        changed: dict[str, dict[str, VersionedRow | None]] = {}
        new: dict[str, set[str]] = {}
        stopped, positions = self._folding.stopped, self._checkpoints.positions
        for step in steps:
            view, key, event, value, more = step
            name = view.name
            if event.position <= positions[self._tables[name]] or name in stopped:
                continue
            entries = changed.setdefault(name, {})
            if key in entries:
                before = entries[key]
            else:
                before = self._cache[name].get(key)
                if before is None:
                    new.setdefault(name, set()).add(key)
            if (name, key) in self._folding.rows_parked:  # since an event of this batch
                self._folding.hold(view, key, event)
                continue
            try:
                after = view.fold(before, event, value, more=more)
            except Exception as error:  # the domain is a user's code
                self._folding.broke(step, error)
                continue
            if after is not before:
                entries[key] = after
        return changed, {name: new.get(name, set()) for name in changed}

    def _remember(self, name: str, entries: dict[str, VersionedRow | None]) -> None:
        cache = self._cache[name]
        for key, entry in entries.items():
            if entry is None:
                cache.pop(key, None)
            else:
                cache[key] = entry
                cache.move_to_end(key)
        while len(cache) > CACHED:
            cache.popitem(last=False)

    async def replay(self, view: str, key: str) -> bool:
        """Folds a row's parked event again, and what waits behind it; False if it broke again.

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
            async with self._pool.acquire() as connection, connection.transaction():
                held = await parking.release(connection, rows.table, parked)
                entry = (await rows.load(connection, [key])).get(key)
                async for raw in parking.events(self._store, [parked, *held]):
                    for step in folding.steps(raw):
                        if step.key != key:
                            continue
                        try:
                            entry = step.view.fold(entry, step.event, step.value, more=step.more)
                        except Exception as error:  # the domain is a user's code
                            folding.broke(step, error)
                await rows.store(connection, {key: entry})
                await parking.save(connection, self._tables, folding.parked, folding.held)
            self._folding.release(parked)
            for again in folding.parked:
                self._folding.park(again)
            self._remember(view, {key: entry})
            return not folding.parked

    def parked(self) -> list[Parked]:
        """Rows of this partition, and streams, that stand still; and views that stopped."""
        mine = [parked for parked in self._folding.parked if self._is_mine(parked.key)]
        return [*mine, *self._folding.stopped.values()]

    def status(self) -> dict[str, Any]:
        """Counts, for operators."""
        stopped = {view: parked.error for view, parked in self._folding.stopped.items()}
        return self.following.status(
            list(self._rows),
            parked=len(self.parked()),
            left_out=self._folding.left_out,
            **({"stopped": stopped} if stopped else {}),
        )


async def _nothing(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """No statement here changes a session, so none has to be asked back before its next use."""
