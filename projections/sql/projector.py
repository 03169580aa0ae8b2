"""Runs a custom SQL projection: each event once, in order, in its checkpoint's transaction.

There is one projector per projection, since its statements may touch any of its rows. It moves the
checkpoint first, from where it left it: a second one cannot commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

import asyncpg

from eventstore.deletions import is_of_the_server, with_deletions
from eventstore.folded_log import FoldedLog
from eventstore.port import Log
from eventstore.records import Batch, RawRecord, recorded
from projections import discarded_events as discards
from projections import parked_places
from projections.errors import UnknownTarget
from projections.parked_pages import in_order
from projections.poison import (
    NAMED,
    Discarded,
    Parked,
    check_alone,
    in_status,
    is_poison,
    park,
)
from projections.postgres import parked_events as parking
from projections.postgres.checkpoints import Checkpoints
from projections.postgres.connections import SETTINGS, is_batch_too_long, pooled
from projections.sql.execution import Work, execute, first_failure
from projections.sql.schema import live
from rayfold import OnPoison, Registry, SqlProjection
from rayfold.runtime.postgres import BY_INDEX
from rayfold.runtime.turns import Turn

if TYPE_CHECKING:
    from projections.postgres.checkpoints import Connection

PATIENCE = 30.0
"""Seconds that an operator waits for a stopped projection to go on."""

MOST_EVENTS = 2_000
"""The most events in one transaction."""

LONGEST = 600.0
"""Seconds for a statement of one event that was not answered within the usual timeout: see
`projections.postgres.connections`. It may take long, or its answer was lost.
"""


class SqlProjector:
    """Fills `schema`, that of a generation being built; by default the live one."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        dsn: str,
        projection: type[SqlProjection],
        schema: str | None = None,
    ) -> None:
        self._registry = registry
        self._log = log
        self._folded = FoldedLog(log, with_deletions(registry.prefixes))
        self._projection = projection
        own = live(projection)
        self._name = own.name
        self._schema = schema or own.relation
        definitions = {own.name: own.fingerprint} if self._schema == own.relation else {}
        self._checkpoints = Checkpoints([self._schema], 0, 1, definitions)
        self._discarded: frozenset[Discarded] = frozenset()
        self._skipped: dict[str, Parked] = {}
        """Skipped events by key, in the log's order."""
        self._mended = asyncio.Event()
        self._writing = asyncio.Lock()
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.stopped: Parked | None = None
        # Events arrive one by one, so rows should be found by an index.
        self.runner = pooled(dsn, server_settings=SETTINGS | BY_INDEX, reset=None)
        self.progress = self.runner.progress

    async def run(self) -> None:
        """Follow the log forever; after an error, try again from the checkpoint."""
        await self.runner.run(self._follow)

    async def _follow(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        async with self._writing:  # a replay changes what is loaded here
            await self._resume(pool)
        self._pool = pool
        self.stopped = None
        checkpoint = {self._name: self._checkpoints.slowest}
        following = self.runner.follow(self._folded, checkpoint, MOST_EVENTS)
        async with aclosing(following) as batches:
            async for batch in batches:
                await self._write(pool, batch)
                if self.stopped:
                    self.runner.error = None  # its work up to there is written
                    break
        if self.stopped:
            await self._wait_until_mended(pool)

    async def _wait_until_mended(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Wait until an operator requests a retry, or another generation is live."""
        while not self._mended.is_set():
            try:
                async with asyncio.timeout(1.0):
                    await self._mended.wait()
            except TimeoutError:
                async with pool.acquire() as connection:
                    found = Checkpoints([self._schema], 0, 1)
                    await found.load(connection)
                if found.positions != self._checkpoints.positions:
                    return

    async def _resume(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._mended.clear()
        self._discarded = await discards.load(self._log, [self._projection.name])
        async with pool.acquire() as connection:
            await self._checkpoints.load(connection)
            views = {self._schema: self._projection.name}
            loaded = in_order(await parking.load(connection, views))
            self._skipped = {each.key: each for each in loaded}
        self.progress.begin_at(self._checkpoints.slowest)

    async def _write(
        self, pool: asyncpg.Pool[asyncpg.Record], batch: Batch, timeout: float | None = None
    ) -> None:
        """Project a batch, in halves if it takes too long, up to an event that stops it."""
        records = batch.records
        try:
            await self._project(pool, batch, timeout)
        except Exception as error:
            if not await is_batch_too_long(error, pool.acquire):
                raise
            if len(records) < 2:
                if not isinstance(error, TimeoutError) or timeout == LONGEST:
                    check_alone(records, error)
                    raise
                await self._write(pool, batch, LONGEST)
                return
            middle = len(records) // 2
            first, rest = records[:middle], records[middle:]
            with self.runner.told_meanwhile(error):
                await self._write(pool, Batch(first, first[-1].position, False))
                if not self.stopped:
                    await self._write(pool, Batch(rest, batch.position, batch.caught_up))

    async def _project(
        self, pool: asyncpg.Pool[asyncpg.Record], batch: Batch, timeout: float | None
    ) -> None:
        async with self._writing:
            skipped: list[Parked] = []
            before = self._checkpoints.positions[self._schema]
            work, stop = await self._work(
                [r for r in batch.records if r.position > before], skipped
            )
            to = max(batch.position, before)
            span = self.runner.traced([self._projection.name], batch.records)
            async with pool.acquire() as connection, connection.transaction():
                await self._checkpoints.move(connection, {self._schema: to})
                stop = await self._execute(connection, work, skipped, timeout) or stop
                await parking.save(connection, self._tables, skipped)
                if stop is not None:
                    done = [r.position for r in batch.records if r.position < stop.position]
                    to = max([before, *done])
                    await self._checkpoints.put_back(connection, {self._schema: to})
            if span is not None:  # a failed batch has no span: it is tried again
                span.end()
            self._checkpoints.positions[self._schema] = to
            self._skipped |= {each.key: each for each in in_order(skipped)}
            self.runner.events += len(batch.records)
            self.progress.advance(to)
            if stop is not None:
                self.stopped = stop

    async def _work(
        self, records: list[RawRecord], skipped: list[Parked]
    ) -> tuple[list[Work], Parked | None]:
        """Return the work of these records, up to one that must stop the projection."""
        work, turn = [], Turn()
        for raw in records:
            await turn.pass_on()
            try:
                if (each := self._work_of(raw)) is not None:
                    work.append(each)
            except (Exception, SystemExit) as error:  # the domain's code may raise anything
                poison = self._poison(raw, error)
                if self._projection.on_poison is OnPoison.STOP:
                    return work, poison
                skipped.append(poison)
        return work, None

    def _work_of(self, raw: RawRecord) -> Work | None:
        if is_of_the_server(raw):
            return None
        if not self._registry.may_be(raw.event_type, raw.stream, self._projection.handlers):
            return None
        if Discarded(self._projection.name, _key(raw), raw.stream, raw.revision) in self._discarded:
            return None
        events = [event for event, *_ in recorded(self._registry, raw)]
        tenant = self._registry.tenant_of(raw.stream) if events else ""
        return Work(
            raw,
            [said for event in events for said in self._projection.statements(event, tenant)],
        )

    async def _execute(
        self,
        connection: Connection,
        work: list[Work],
        skipped: list[Parked],
        timeout: float | None = None,
    ) -> Parked | None:
        """Execute the work; return the event that must stop the projection, if any."""
        try:
            if any(each.statements for each in work):
                await execute(connection, self._schema, work, timeout)
            return None
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not is_poison(error):
                raise
        while (failure := await first_failure(connection, self._schema, work, timeout)) is not None:
            at, reason = failure
            poison = self._poison(work[at].raw, reason)
            if self._projection.on_poison is OnPoison.STOP:
                return poison
            skipped.append(poison)
            work = work[at + 1 :]
        return None

    def _poison(self, raw: RawRecord, error: BaseException) -> Parked:
        return park(self._projection.on_poison, self._projection.name, _key(raw), raw, error)

    @property
    def _tables(self) -> dict[str, str]:
        return {self._projection.name: self._schema}

    async def replay_all(self, view: str, keys: Sequence[str]) -> None:
        """Retry the events that are parked under these keys, if there are any."""
        for key in keys:
            with suppress(UnknownTarget):
                await self.replay(view, key)

    async def replay(self, view: str, key: str) -> bool:
        """Retry the event that is parked under `key`; return False if it failed again.

        A skipped event is executed now, after all later ones; one on which the projection stopped
        is executed in its place. A discarded one is not executed.

        Raises:
            UnknownTarget: nothing is parked under the key.
            StoreUnavailable, asyncpg.PostgresError: nothing has changed.
        """
        parked = self._find(key)
        if self.stopped is parked:
            return await self._go_on(parked)
        async with self._writing:
            parked = self._find(key)  # another replay may have been faster
            self._discarded = await discards.load(self._log, [self._projection.name])
            skipped: list[Parked] = []
            async with self._connection() as connection, connection.transaction():
                if not await parking.forget(connection, self._schema, parked):
                    raise self._unknown(key)
                events = [raw async for raw in parked_places.events(self._log, [parked])]
                work, stop = await self._work(events, skipped)
                stop = await self._execute(connection, work, skipped, LONGEST) or stop
                still = [*skipped, *([stop] if stop else [])]
                await parking.save(connection, self._tables, still)
            if still:
                self._skipped |= {each.key: each for each in still}  # kept in its place
            else:
                self._skipped.pop(key, None)
            return not still

    def _find(self, key: str) -> Parked:
        parked = self._skipped.get(key)
        if parked is None and self.stopped is not None and self.stopped.key == key:
            parked = self.stopped
        if parked is None or self._pool is None:
            raise self._unknown(key)
        return parked

    def _unknown(self, key: str) -> UnknownTarget:
        return UnknownTarget(f"nothing of {self._projection.name!r} is parked under {key!r}")

    def _connection(self) -> Any:
        assert self._pool is not None
        return self._pool.acquire()

    async def _go_on(self, parked: Parked) -> bool:
        """Make the projection retry; return whether it got past the event."""
        self._mended.set()
        until = time.monotonic() + PATIENCE
        while self.stopped is parked or (
            self.stopped is None and self.progress.position < parked.position
        ):
            if self.runner.error or time.monotonic() > until:
                return False
            await self.progress.reached(parked.position, 0.05)
        return self.stopped is None or self.stopped.position > parked.position

    def parked(self) -> list[Parked]:
        """Return the events that were skipped, or stopped the projection, `in_order`."""
        return [*self._skipped.values(), *([self.stopped] if self.stopped else [])]

    def status(self) -> dict[str, Any]:
        """Return counts, for operators, without going through all skipped events."""
        name, stopped = self._projection.name, [self.stopped] if self.stopped else []
        first = [*islice(self._skipped.values(), NAMED), *stopped]
        number = len(self._skipped) + len(stopped)
        counts = self.runner.status([name], parked=number, **in_status(first))
        if self.stopped is None:
            return counts
        # A stopped one still answers queries, and is no reason to take the gateway out of service:
        # a query with a token is told which projection lags.
        ready = self.runner.error is None
        return {**counts, "ready": ready, "stopped": {name: self.stopped.error}}


def _key(raw: RawRecord) -> str:
    """Return the name that operators use for an event; there are no rows to name."""
    return f"{raw.revision}@{raw.stream}"
