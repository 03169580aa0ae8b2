"""A Postgres projector: folds one partition of the keys into tables, exactly once.

Rows and checkpoint are written in one transaction, and the checkpoint only from where
this projector left it: a second one of the same partition cannot commit. The transaction
does not wait for the disk: rows and checkpoint are lost together, and folded again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any
from zlib import crc32

import asyncpg

from eventstore.errors import StoreUnavailable
from eventstore.port import Log
from eventstore.records import Batch, RawRecord
from projections.errors import Fenced
from projections.folding import Folding, Parked, Step
from projections.progress import Progress
from projections.rows import Rows
from rayfold import Entry, Registry

log = logging.getLogger(__name__)

RETRY = 0.25
"""Seconds before what broke is tried again."""

CACHED = 50_000
"""Rows kept in memory for each view, so that a live projector seldom reads."""

MOST_EVENTS = 4_000
"""In one transaction. Live, it is whatever came while the one before was written."""

_Pool = asyncpg.Pool


def hash_of(key: str) -> int:
    """Its remainder by the number of partitions is the partition that a row belongs to."""
    return crc32(key.encode())


class Projector:
    """Partition `partition` of `partitions`, for all views that live in Postgres."""

    def __init__(
        self, registry: Registry, store: Log, dsn: str, partition: int, partitions: int
    ) -> None:
        self._registry = registry
        self._store = store
        self._dsn = dsn
        self._partition = partition
        self._partitions = partitions
        self._views = [view for view in registry.views.values() if "postgres" in view.stores]
        self._rows = {view.name: Rows(view) for view in self._views}
        self._cache: dict[str, OrderedDict[str, Entry]] = {}
        self._folding = Folding(registry, self._views)
        self._checkpoints: dict[str, int] = {}
        self.progress = Progress()
        self.caught_up = asyncio.Event()
        self.events = 0
        self.trouble: str | None = None

    async def run(self) -> None:
        """Follows the log for ever; what breaks is tried again from the checkpoint."""
        while True:
            try:
                await self._connect_and_follow()
            except (StoreUnavailable, Fenced, asyncpg.PostgresError, OSError) as error:
                self.trouble = f"{type(error).__name__}: {error}"
                log.info("projecting broke: %s", self.trouble)
                await asyncio.sleep(RETRY)
            except asyncpg.InterfaceError as error:
                self.trouble = f"{type(error).__name__}: {error}"
                await asyncio.sleep(RETRY)

    async def _connect_and_follow(self) -> None:
        async with asyncpg.create_pool(
            self._dsn,
            min_size=1,
            max_size=1,
            server_settings={"synchronous_commit": "off", "application_name": "rayfold"},
        ) as pool:
            await self._resume(pool)
            after = min(self._checkpoints.values(), default=0) or None
            self.trouble = None
            async with aclosing(self._store.subscribe(self._registry.prefixes, after)) as batches:
                async for batch in batches:
                    for at in range(0, max(len(batch.records), 1), MOST_EVENTS):
                        records = batch.records[at : at + MOST_EVENTS]
                        last = at + MOST_EVENTS >= len(batch.records)
                        position = batch.position if last else records[-1].position
                        await self._project(pool, Batch(records, position, batch.caught_up))
                    if batch.caught_up:
                        self.caught_up.set()

    async def _resume(self, pool: _Pool[asyncpg.Record]) -> None:
        """From what Postgres has, not from what this process believes."""
        self._cache = {name: OrderedDict() for name in self._rows}
        self._folding = Folding(self._registry, self._views)
        tables = {rows.table: rows for rows in self._rows.values()}
        records = await pool.fetch(
            'SELECT "table", position FROM rayfold_checkpoint'
            ' WHERE "table" = ANY($1) AND partition = $2 AND partitions = $3',
            list(tables),
            self._partition,
            self._partitions,
        )
        if len(records) != len(tables):
            raise Fenced("the key space was partitioned anew")
        self._checkpoints = {record["table"]: record["position"] for record in records}
        for record in await pool.fetch(
            'SELECT * FROM rayfold_parked WHERE "table" = ANY($1)', list(tables)
        ):
            view = tables[record["table"]].view.name if record["key"] else ""
            self._folding.park(
                Parked(
                    view,
                    record["key"],
                    record["stream"],
                    record["revision"],
                    record["position"],
                    record["error"],
                )
            )
        self.progress.position = min(self._checkpoints.values(), default=0)

    async def _project(self, pool: _Pool[asyncpg.Record], batch: Batch) -> None:
        parked_before = len(self._folding.parked)
        steps = await self._steps(batch.records)
        async with pool.acquire() as connection, connection.transaction():
            await self._fetch_missing(connection, steps)
            changed = self._fold(steps)
            for name, entries in changed.items():
                await self._rows[name].store(connection, entries)
            for parked in self._folding.parked[parked_before:]:
                await self._save_parked(connection, parked)
            await self._move_checkpoints(connection, batch.position)
        for table in self._checkpoints:
            self._checkpoints[table] = max(batch.position, self._checkpoints[table])
        for name, entries in changed.items():
            self._remember(name, entries)
        self.events += len(batch.records)
        self.progress.advance(batch.position)

    async def _steps(self, records: Sequence[RawRecord]) -> list[Step]:
        steps = []
        for at, raw in enumerate(records, 1):
            for step in self._folding.steps(raw):
                if hash_of(step.key) % self._partitions == self._partition:
                    steps.append(step)
            if at % 200 == 0:
                await asyncio.sleep(0)
        return steps

    async def _fetch_missing(
        self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], steps: list[Step]
    ) -> None:
        missing: dict[str, set[str]] = {}
        for step in steps:
            if step.key not in self._cache[step.view.name]:
                missing.setdefault(step.view.name, set()).add(step.key)
        for name, keys in missing.items():
            cache = self._cache[name]
            cache.update(await self._rows[name].load(connection, keys))

    def _fold(self, steps: list[Step]) -> dict[str, dict[str, Entry | None]]:
        changed: dict[str, dict[str, Entry | None]] = {}
        for step in steps:
            if step.event.position <= self._checkpoints[self._rows[step.view.name].table]:
                continue
            entries = changed.setdefault(step.view.name, {})
            before = (
                entries[step.key]
                if step.key in entries
                else self._cache[step.view.name].get(step.key)
            )
            try:
                after = step.view.fold(before, step.event)
            except Exception as error:  # the domain is a user's code
                self._folding.broke(step, error)
                continue
            if after is not before:
                entries[step.key] = after
        return changed

    def _remember(self, name: str, entries: dict[str, Entry | None]) -> None:
        cache = self._cache[name]
        for key, entry in entries.items():
            if entry is None:
                cache.pop(key, None)
            else:
                cache[key] = entry
                cache.move_to_end(key)
        while len(cache) > CACHED:
            cache.popitem(last=False)

    async def _save_parked(
        self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], parked: Parked
    ) -> None:
        for name, rows in self._rows.items():
            if parked.view in ("", name):
                await connection.execute(
                    "INSERT INTO rayfold_parked VALUES ($1,$2,$3,$4,$5,$6) ON CONFLICT DO NOTHING",
                    rows.table,
                    parked.key,
                    parked.stream,
                    parked.revision,
                    parked.position,
                    parked.error,
                )

    async def _move_checkpoints(
        self, connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], position: int
    ) -> None:
        tables = [table for table, at in self._checkpoints.items() if at < position]
        if not tables:
            return
        moved = await connection.execute(
            "UPDATE rayfold_checkpoint c SET position = $1"
            " FROM unnest($2::text[], $3::bigint[]) AS u(name, at)"
            ' WHERE c."table" = u.name AND c.partition = $4 AND c.partitions = $5'
            " AND c.position = u.at",
            position,
            tables,
            [self._checkpoints[table] for table in tables],
            self._partition,
            self._partitions,
        )
        if moved != f"UPDATE {len(tables)}":
            raise Fenced("another projector has moved the checkpoint")

    def status(self) -> dict[str, Any]:
        """Counts, for operators."""
        return {
            "views": list(self._rows),
            "position": self.progress.position,
            "ready": self.caught_up.is_set() and self.trouble is None,
            "events": self.events,
            "parked": len(self._folding.parked),
            "left_out": self._folding.left_out,
            **({"error": self.trouble} if self.trouble else {}),
        }
