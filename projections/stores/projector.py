"""A projector: folds one partition of the keys into a durable store, exactly once.

Rows and checkpoint are written in one transaction, which the store refuses if another writer has
written since: see `Writer`. So a second projector of the same partition has no effect.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from eventstore.deletions import with_deletions
from eventstore.folded_log import FoldedLog
from eventstore.port import Log
from eventstore.records import Batch, RawRecord
from projections import discarded_events as discards
from projections import parked_places
from projections.errors import UnknownTarget
from projections.folding import Folding, Step
from projections.partitions import AlreadyProjected, hash_of
from projections.poison import Parked, check_alone
from projections.stores.port import ReadStore, Transaction, Writer
from projections.stores.runner import ProjectionRunner
from rayfold import Registry, VersionedRow, ViewDefinition
from rayfold.runtime.turns import Turn
from rayfold.runtime.waking import asleep

CACHED = 50_000
"""Rows kept in memory for each view, so that a live projector seldom reads."""

GATHER = 0.01
"""Seconds between two transactions: one costs a millisecond of CPU, whatever is in it."""

APART = 0.1
"""Seconds between two transactions that only move checkpoints."""

REPLAYED = 100
"""Parked rows that are folded again in one transaction; no event is folded meanwhile."""

_Changed: TypeAlias = dict[str, VersionedRow | None]


class Projector:
    """Fills partition `partition` of `partitions` of some views.

    `generations` has those being built, by view; for others, the live one is filled.
    """

    def __init__(
        self,
        registry: Registry,
        log: Log,
        store: ReadStore,
        views: Sequence[ViewDefinition],
        partition: int = 0,
        partitions: int = 1,
        generations: Mapping[str, str] | None = None,
    ) -> None:
        self._registry = registry
        self._log = log
        domain, concerned = registry.prefixes, registry.prefixes_of(views)
        self._domain = FoldedLog(log, with_deletions(domain))
        self._prefixes = with_deletions(concerned)
        """The prefixes of streams that concern its views: no others are sent to it."""
        self._folded = FoldedLog(log, self._prefixes)
        self._store = store
        self._partition = partition
        self._partitions = partitions
        self._views = {view.name: view for view in views}
        self._cache: dict[str, OrderedDict[str, VersionedRow]] = {}
        self._folding = Folding(registry, views)
        self._generations = generations or {}
        self._writer: Writer | None = None
        self._writing = asyncio.Lock()
        self._passed: int | None = None
        """How far the log was read beyond the checkpoints, while no event changed a row."""
        self._passing = asyncio.Event()
        self._awaited = asyncio.Event()
        """Set while a caller waits for the checkpoint."""
        self.runner: ProjectionRunner[Writer] = ProjectionRunner(
            lambda: store.writing(views, partition, partitions, self._generations), store.name
        )
        if concerned != domain:
            self.runner.settle = self._settle
        self.progress = self.runner.progress

    async def run(self) -> None:
        """Follow the log forever; after an error, try again from the checkpoint."""
        await self.runner.run(self._follow)

    async def _follow(self, writer: Writer) -> None:
        async with self._writing:  # a replay changes what is loaded here
            await self._resume(writer)
        self._writer = writer
        working = [
            asyncio.create_task(self._follow_log(writer)),
            asyncio.create_task(writer.lost()),
            asyncio.create_task(self._write_passed(writer)),
        ]
        try:
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in working:
                each.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _resume(self, writer: Writer) -> None:
        self._cache = {name: OrderedDict() for name in self._views}
        self._passed = None
        self._folding = Folding(self._registry, list(self._views.values()))
        self._folding.discarded = await discards.load(self._log, self._views)
        for parked in sorted(await writer.open(), key=lambda each: each.position):
            if not parked.key or self._is_mine(parked.key):
                self._folding.park(parked)
        for view, position in writer.positions.items():  # a view that began later has a lower one
            self._folding.cover(view, AlreadyProjected([position]))
        at = _slowest(writer)
        if at < self.progress.position:  # the store has lost the last transactions
            self.runner.ready.clear()
        self.progress.begin_at(at)

    async def _follow_log(self, writer: Writer) -> None:
        following = self.runner.follow(
            self._folded, writer.positions, self._store.most_events, gather=GATHER
        )
        async with aclosing(following) as batches:
            async for batch in batches:
                await self._project(writer, batch)

    async def _project(self, writer: Writer, batch: Batch) -> None:
        async with self._writing:
            span = self.runner.traced([*self._views], batch.records)
            if batch.records or not self._may_pass:
                await self._write(writer, batch)
            else:
                self._pass(batch.position)
            if span is not None:  # a failed batch has no span: it is tried again
                span.end()
            if batch.caught_up:
                await writer.caught_up()
            self.runner.events += len(batch.records)
            if self._passed is None:
                self.progress.advance(batch.position)

    async def _settle(self) -> None:
        """See `ProjectionRunner.settle`."""
        writer, at = self._writer, max(self.progress.position, self._passed or 0)
        end = await self._domain.end()
        if writer is None:
            return
        if end > at:
            between = self._log.read_all(self._prefixes, after=at or None, limit=1)
            if [each async for each in between]:
                return  # the subscription delivers it
            async with self._writing:
                if self._writer is not writer:
                    return  # it is another store, which may have less
                self._pass(end)
        if self._passed is not None:
            self._awaited.set()
            await self.progress.reached(end, APART)

    def _pass(self, position: int) -> None:
        self._passed = max(position, self._passed or 0)
        self._passing.set()

    async def _write_passed(self, writer: Writer) -> None:
        """Move checkpoints periodically past events that change no row.

        Moving them costs as much as writing rows, and a view that few events concern would pay for
        all events.
        """
        while True:
            await self._passing.wait()
            await asleep(APART, self._awaited)
            self._passing.clear()
            async with self._writing:
                if self._passed is not None:
                    batch = Batch([], self._passed, False)
                    await self._transact(writer, batch, row_by_row=False)
                    self.progress.advance(batch.position)

    async def _write(self, writer: Writer, batch: Batch) -> None:
        """Write the changes of a batch; if the store rejects a row, find out which.

        The batch is halved repeatedly, each half being a transaction: down to the record that leads
        to the row, or to a size that the store can handle in time.
        """
        records = batch.records
        try:
            await self._transact(writer, batch)
        except Exception as error:
            store = self._store
            if not store.refuses(error):
                if not await store.is_too_much(error):
                    raise
                if len(records) < 2:
                    check_alone(records, error)
                    raise
            if len(records) < 2:
                await self._transact(writer, batch, row_by_row=True)
                return
            middle = len(records) // 2
            first, rest = records[:middle], records[middle:]
            with self.runner.told_meanwhile(error):
                await self._write(writer, Batch(first, first[-1].position, False))
                await self._write(writer, Batch(rest, batch.position, batch.caught_up))

    async def _transact(self, writer: Writer, batch: Batch, *, row_by_row: bool = False) -> None:
        """Write rows and checkpoints in one transaction, or nothing.

        `row_by_row`: a row that the store rejects is parked, the others are written.
        """
        folding = self._folding
        stopped_before = set(folding.stopped)
        try:
            steps = await self._steps(batch.records)
            if batch.records and not steps and not folding.has_noted and self._may_pass:
                self._pass(batch.position)
                return
            positions = writer.positions
            to = {
                view: max(batch.position, positions[view])
                for view in self._views
                if view not in stopped_before
            }
            async with writer.transaction(to) as transaction:
                if row_by_row:
                    steps = await self._load_each(transaction, steps)
                else:
                    await self._load_missing(transaction, steps)
                changed, new = await self._fold(steps, positions)
                if row_by_row:
                    await self._store_each(transaction, steps, changed)
                else:
                    for name, rows in changed.items():
                        await transaction.store(name, rows, self._cache[name], new[name])
                noted = folding.take_noted()
                mine = [each for each in noted.held if self._is_mine(each.key)]
                released = [each for each in noted.released if self._is_mine(each.key)]
                await transaction.forget(released)
                await transaction.park(noted.parked, mine)
                for parked in noted.stopped:
                    at = max(parked.position - 1, positions[parked.view])
                    await transaction.put_back(parked.view, at)
        except BaseException:
            folding.undo(folding.take_noted())
            raise
        self._passed = None
        for name, rows in changed.items():
            self._remember(name, rows)

    @property
    def _may_pass(self) -> bool:
        """Return whether a checkpoint may wait: a caller may need one once it has caught up."""
        return self.runner.ready.is_set() and not self._generations

    def _is_mine(self, key: str) -> bool:
        """Return whether the row is in this partition; a parked stream is in the first one."""
        return (hash_of(key) if key else 0) % self._partitions == self._partition

    async def _steps(self, records: Sequence[RawRecord]) -> list[Step]:
        steps, turn = [], Turn()
        for raw in records:
            for step in self._folding.steps(raw):
                if self._partitions == 1 or self._is_mine(step.key):
                    steps.append(step)
            await turn.pass_on()
        return steps

    async def _load_missing(self, transaction: Transaction, steps: Sequence[Step]) -> None:
        missing: dict[str, set[str]] = {}
        for step in steps:
            if step.key not in self._cache[step.view.name]:
                missing.setdefault(step.view.name, set()).add(step.key)
        for name, keys in missing.items():
            self._cache[name].update(await transaction.load(name, keys))

    async def _load_each(self, transaction: Transaction, steps: Sequence[Step]) -> list[Step]:
        """Return the steps whose rows can be read; park the others."""
        readable = []
        for step in steps:
            if step.erases:
                readable.append(step)
                continue
            try:
                async with transaction.savepoint():
                    await self._load_missing(transaction, [step])
            except Exception as error:
                if not self._store.refuses(error):
                    raise
                self._folding.broke(step, error, by_store=True)
            else:
                readable.append(step)
        return readable

    async def _store_each(
        self, transaction: Transaction, steps: Sequence[Step], changed: dict[str, _Changed]
    ) -> None:
        """Write row by row; one that is rejected is parked, and stays as it was."""
        last = {(step.view.name, step.key): step for step in steps}
        for name, rows in changed.items():
            for key, row in list(rows.items()):
                try:
                    async with transaction.savepoint():
                        await transaction.store(name, {key: row}, self._cache[name])
                except Exception as error:
                    if not self._store.refuses(error):
                        raise
                    del rows[key]
                    self._folding.broke(last[name, key], error, by_store=True)

    async def _fold(
        self, steps: Sequence[Step], positions: Mapping[str, int]
    ) -> tuple[dict[str, _Changed], dict[str, set[str]]]:
        """Return the changed rows, and the keys of those that the store does not have yet."""
        changed: dict[str, _Changed] = {}
        new: dict[str, set[str]] = {}
        turn = Turn()
        for step in steps:
            await turn.pass_on()
            name, key = step.view.name, step.key
            if step.event.position <= positions[name]:
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
        """Fold a row's parked event and those behind it again; return False if it failed again.

        Events that were discarded meanwhile are left out: see `projections.discarded_events`.

        Raises:
            UnknownTarget: the row is not parked here.
            StoreUnavailable: nothing has changed; the same holds for any error of the store.
        """
        async with self._writing:
            if self._folding.parked_row(view, key) is None or self._writer is None:
                raise UnknownTarget(f"no row of {view!r} is parked under {key!r}")
            return not await self._replay(self._writer, view, [key])

    async def replay_all(self, view: str, keys: Sequence[str]) -> None:
        """Replay many rows; those that are no longer parked are skipped.

        Raises:
            StoreUnavailable: not all of it was done; the same holds for any error of the store.
        """
        most = min(REPLAYED, self._store.most_events)
        for at in range(0, len(keys), most):
            async with self._writing:
                some = [key for key in keys[at : at + most] if self._folding.parked_row(view, key)]
                if some and self._writer is not None:
                    await self._replay(self._writer, view, some)

    async def _replay(self, writer: Writer, view: str, keys: Sequence[str]) -> list[str]:
        """Replay rows in one transaction, or in several if the store cannot take them together.

        Return the rows that are parked again.
        """
        discarded = await discards.load(self._log, [view])
        foldings = {key: Folding(self._registry, [self._views[view]]) for key in keys}
        rows: dict[str, VersionedRow | None] = {}
        try:
            async with writer.transaction({}) as transaction:
                before = await transaction.load(view, keys)
                turn = Turn()
                for key, folding in foldings.items():
                    folding.discarded = discarded
                    parked = self._parked(view, key)
                    held = await transaction.release(parked)
                    row = before.get(key)
                    async for raw in parked_places.events(self._log, [parked, *held]):
                        await turn.pass_on()
                        row = folding.fold_row(raw, key, row)
                    rows[key] = row
                await transaction.store(view, rows, before)
                noted = [folding.take_noted() for folding in foldings.values()]
                await transaction.park(
                    [parked for each in noted for parked in each.parked],
                    [held for each in noted for held in each.held],
                )
        except Exception as error:
            store = self._store
            if not store.refuses(error) and (len(keys) < 2 or not await store.is_too_much(error)):
                raise
            if len(keys) < 2:
                return [*keys]  # the store still rejects it
            middle = len(keys) // 2
            first = await self._replay(writer, view, keys[:middle])
            return first + await self._replay(writer, view, keys[middle:])
        for key, folding in foldings.items():
            self._folding.replayed(self._parked(view, key), folding.parked)
        self._remember(view, rows)
        return [key for key, folding in foldings.items() if folding.parked]

    def _parked(self, view: str, key: str) -> Parked:
        parked = self._folding.parked_row(view, key)
        assert parked is not None, "nobody else replays meanwhile"
        return parked

    def parked(self) -> Sequence[Parked]:
        """Return the parked rows of this partition, parked streams, and stopped views.

        They are `in_order`.
        """
        return self._folding.listed(streams=self._is_mine(""))

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        stopped = {view: parked.error for view, parked in self._folding.stopped.items()}
        told = self._folding.told_of_parked(streams=self._is_mine(""))
        told["parked"] += len(stopped)
        return self.runner.status(
            list(self._views),
            left_out=self._folding.left_out,
            **told,
            **({"stopped": stopped} if stopped else {}),
        )


def _slowest(writer: Writer) -> int:
    """Return where a subscription for all of its views must begin."""
    return min(writer.positions.values(), default=0)
