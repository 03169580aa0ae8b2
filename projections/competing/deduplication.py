"""Folds events that come in any order, with repeats: each once, in its stream's order.

Beside the rows, Postgres stores each stream's last folded revision. An event at or below it is a
repeat; one that is not the next leaves a gap, and must wait. Rows and revisions are written in one
transaction, under locks on both, so that consumers that share a view cannot fold an event twice or
lose each other's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import asyncpg

from eventstore.deletions import is_of_the_server
from eventstore.port import Log
from eventstore.records import RawRecord, recorded
from projections import discarded_events as discards
from projections import parked_places
from projections.competing.locks import lock
from projections.erasure import Erasures
from projections.errors import Fenced, UnknownTarget
from projections.parked_pages import EVERYTHING, Asked
from projections.poison import Discarded, Held, Parked, check_alone, is_refused, park
from projections.postgres import generations
from projections.postgres import parked_events as parking
from projections.postgres.connections import is_batch_too_long
from projections.postgres.row_codec import fingerprint_of
from projections.postgres.rows import Rows
from rayfold import (
    RecordedEvent,
    Registry,
    RowChange,
    VersionedRow,
    ViewDefinition,
)
from rayfold.runtime.postgres_text import indexable, storable
from rayfold.runtime.turns import Turn

_Pool = asyncpg.Pool


class _Step(NamedTuple):
    """The effect of one record on the view: folds onto some rows, or none, or an error."""

    raw: RawRecord
    changes: list[RowChange]
    error: BaseException | None = None
    erased: str | None = None
    """The stream that it deletes: then its rows are removed."""


class Deduplication:
    """Folds events into one view's table. All state is in Postgres, for any number of consumers."""

    def __init__(
        self, registry: Registry, log: Log, view: ViewDefinition, table: str | None = None
    ) -> None:
        self._registry = registry
        self._log = log
        self._view = view
        self._rows = Rows(view, table)
        self._definition = fingerprint_of(view) if table is None else None
        self._discarded: frozenset[Discarded] = frozenset()
        self._erasures = Erasures(registry, [view])
        self.table = self._rows.table

    async def load_discards(self) -> None:
        """Load what operators have discarded. This does not include events that were not parked."""
        self._discarded = await discards.load(self._log, [self._view.name])

    async def is_replaced(self, connection: Any) -> bool:
        """Return whether another release has built the live table, so that we must not fill it.

        A generation that is not live yet is only filled by its builder.
        """
        if self._definition is None:
            return False
        known = await generations.fingerprint_of_live(connection, self._view.name)
        return known not in (None, self._definition)

    async def _check_definition(self, connection: Any) -> None:
        """Check that the table still has our definition, under the lock for which a switch waits.

        Raises:
            Fenced: another release has built it.
        """
        if await self.is_replaced(connection):
            raise Fenced(f"another release has built {self._view.name!r}")

    async def apply(
        self, pool: _Pool[asyncpg.Record], records: Sequence[RawRecord], *, whole: bool = False
    ) -> list[RawRecord]:
        """Fold the records that can be folded; return those before which one is missing.

        The others are done, durably. `whole` says that nothing can be missing: these are all events
        of their streams after those that were folded.

        Raises:
            Fenced: another release has built the table; nothing has changed.
            NotInTime: one record alone takes longer than a statement may.
            asyncpg.PostgresError, OSError: nothing has changed.
        """
        try:
            return await self._apply(pool, records, whole)
        except Exception as error:
            too_long = await is_batch_too_long(error, pool.acquire)
            if too_long:
                check_alone(records, error)
            if not (too_long or is_refused(error)) or not records:
                raise
            if len(records) == 1:
                if too_long:
                    raise
                return await self._apply(pool, records, whole, row_by_row=True)
        # A smaller batch may succeed in time. Or Postgres rejects one of the rows: that one is
        # found by folding record by record.
        ordered = sorted(records, key=lambda raw: raw.position)
        most = (len(ordered) + 1) // 2 if too_long else 1
        missing = []
        for at in range(0, len(ordered), most):
            missing += await self.apply(pool, ordered[at : at + most], whole=whole)
        return missing

    async def _apply(
        self,
        pool: _Pool[asyncpg.Record],
        records: Sequence[RawRecord],
        whole: bool,
        *,
        row_by_row: bool = False,
    ) -> list[RawRecord]:
        steps, turn = [], Turn()
        for raw in sorted(records, key=lambda r: r.position):
            await turn.pass_on()
            steps.append(self._step(raw))
        streams = {step.raw.stream for step in steps}
        keys = {change.key for step in steps for change in step.changes}
        names = [("stream", stream) for stream in streams] + [("row", key) for key in keys]
        async with pool.acquire() as connection, connection.transaction():
            await lock(connection, self.table, names)
            await self._check_definition(connection)
            # All later statements see what other consumers have written under these locks.
            applied = await self._applied(connection, streams)
            erased = {step.erased for step in steps if step.erased is not None}
            parked = await self._parked(connection, keys, streams | erased)
            batch = _Batch(self._view, applied, parked)
            batch.rows |= await self._load(connection, keys, batch, steps, row_by_row=row_by_row)
            missing = []
            for step in steps:
                await turn.pass_on()
                if not batch.take(step, whole):
                    missing.append(step.raw)
            if row_by_row:
                await self._store_each(connection, batch, steps)
            else:
                await self._rows.store(connection, batch.changed)
            await self._save_applied(connection, applied)
            tables = {self._view.name: self.table}
            await parking.erase(connection, tables, batch.released)
            await parking.save(connection, tables, batch.newly_parked, batch.held)
        return missing

    async def _load(
        self,
        connection: Any,
        keys: set[str],
        batch: _Batch,
        steps: Sequence[_Step],
        *,
        row_by_row: bool,
    ) -> dict[str, VersionedRow]:
        if not row_by_row:
            return await self._rows.load(connection, keys)
        found: dict[str, VersionedRow] = {}
        for key in keys:
            try:
                async with connection.transaction():
                    found |= await self._rows.load(connection, [key])
            except Exception as error:
                if not is_refused(error):
                    raise
                batch.refuse(steps, key, error)
        return found

    async def _store_each(self, connection: Any, batch: _Batch, steps: Sequence[_Step]) -> None:
        for key, row in list(batch.changed.items()):
            try:
                async with connection.transaction():
                    await self._rows.store(connection, {key: row})
            except Exception as error:
                if not is_refused(error):
                    raise
                batch.refuse(steps, key, error)

    def _step(self, raw: RawRecord) -> _Step:
        if is_of_the_server(raw):
            return self._erasing(raw)
        if not self._registry.may_be(raw.event_type, raw.stream, self._view.folds):
            return _Step(raw, [])
        name, place = self._view.name, (raw.stream, raw.revision)
        try:
            changes = self._view.changes_of(recorded(self._registry, raw))
        except (Exception, SystemExit) as error:  # the domain is an author's code
            if Discarded(name, "", *place) in self._discarded:
                return _Step(raw, [])
            return _Step(raw, [], error)
        wanted = [
            each for each in changes if Discarded(name, each.key, *place) not in self._discarded
        ]
        return _Step(raw, wanted)

    def _erasing(self, raw: RawRecord) -> _Step:
        erased = self._erasures.of(raw)
        if erased is None:
            return _Step(raw, [])
        no_event: Any = None
        event = RecordedEvent(no_event, erased.stream, raw.revision, raw.position, {})
        changes = [RowChange(erased.key, erased.key, event)] if erased.own else []
        return _Step(raw, changes, erased=erased.stream)

    async def _applied(self, connection: Any, streams: set[str]) -> dict[str, int]:
        # An earlier release stored long names unchanged.
        stored = {text: each for each in streams for text in (indexable(each), storable(each))}
        records = await connection.fetch(
            'SELECT stream, revision FROM rayfold_applied WHERE "table" = $1 AND stream = ANY($2)',
            self.table,
            list(stored),
        )
        found = dict.fromkeys(streams, -1)
        for record in records:
            stream = stored[record["stream"]]
            found[stream] = max(found[stream], record["revision"])
        return found

    async def _save_applied(self, connection: Any, applied: dict[str, int]) -> None:
        begun = {stream: revision for stream, revision in applied.items() if revision >= 0}
        await connection.execute(
            "INSERT INTO rayfold_applied SELECT $1, u.stream, u.revision"
            " FROM unnest($2::text[], $3::bigint[]) AS u(stream, revision)"
            ' ON CONFLICT ("table", stream) DO UPDATE SET revision = excluded.revision',
            self.table,
            [indexable(stream) for stream in begun],
            list(begun.values()),
        )

    async def _parked(
        self, connection: Any, keys: Collection[str], streams: Collection[str] = ()
    ) -> list[Parked]:
        return await parking.among(connection, self.table, self._view.name, keys, streams)

    async def applied_of(self, pool: _Pool[asyncpg.Record], stream: str) -> int:
        """Return the last folded revision of a stream; -1 before the first."""
        async with pool.acquire() as connection:
            return (await self._applied(connection, {stream}))[stream]

    async def parked(self, pool: _Pool[asyncpg.Record], asked: Asked = EVERYTHING) -> list[Parked]:
        """See `parked_events.listed`: the rows and streams that are parked."""
        return await parking.listed(pool, self.table, self._view.name, asked)

    async def first_parked(self, pool: _Pool[asyncpg.Record]) -> tuple[int, list[Parked]]:
        """Return the number of parked entries, and the first ones in the log's order."""
        return await parking.first(pool, self.table, self._view.name)

    async def replay(self, pool: _Pool[asyncpg.Record], key: str) -> bool:
        """Fold a row's parked event, unless discarded, and those behind it again.

        Returns False if it failed again.

        Raises:
            UnknownTarget: the row is not parked.
            Fenced: another release has built the table; nothing has changed.
            StoreUnavailable, asyncpg.PostgresError: nothing has changed.
        """
        await self.load_discards()
        try:
            return await self._replay(pool, key)
        except Exception as error:
            if not is_refused(error):
                raise
            return False  # Postgres still rejects it

    async def _replay(self, pool: _Pool[asyncpg.Record], key: str) -> bool:
        async with pool.acquire() as connection, connection.transaction():
            await lock(connection, self.table, [("row", key)])
            await self._check_definition(connection)
            found = await self._parked(connection, [key]) if key else []
            if not found:
                raise UnknownTarget(f"no row of {self._view.name!r} is parked under {key!r}")
            parked, *_ = found
            held = await parking.release(connection, self.table, parked)
            batch = _Batch(self._view, {}, [])
            batch.rows |= await self._rows.load(connection, [key])
            turn = Turn()
            async for raw in parked_places.events(self._log, [parked, *held]):
                await turn.pass_on()
                step = self._step(raw)
                for change in step.changes:
                    if change.key == key:
                        batch.fold(step, change)
            await self._rows.store(connection, batch.changed)
            tables = {self._view.name: self.table}
            await parking.save(connection, tables, batch.newly_parked, batch.held)
        return not batch.newly_parked


class _Batch:
    """The changes of one transaction."""

    def __init__(
        self, view: ViewDefinition, applied: dict[str, int], parked: Sequence[Parked]
    ) -> None:
        self._view = view
        self._applied = applied
        self.rows: dict[str, VersionedRow | None] = {}
        self._parked = list(parked)
        self.released: list[Parked] = []
        self._rows_parked = {each.key for each in parked if each.key}
        self._streams_parked = {each.stream for each in parked if not each.key}
        self.changed: dict[str, VersionedRow | None] = {}
        self.newly_parked: list[Parked] = []
        self.held: list[Held] = []

    def take(self, step: _Step, whole: bool) -> bool:
        """Return whether the record is done; False if an earlier one of its stream is missing."""
        stream, revision = step.raw.stream, step.raw.revision
        if is_of_the_server(step.raw):  # its revisions are not those of the stream
            self._erase(step)
            return True
        if revision <= self._applied[stream]:
            return True
        if revision > self._applied[stream] + 1 and not whole:
            return False
        self._applied[stream] = revision
        if stream in self._streams_parked:
            return True
        if step.error is not None:
            self._park(step, "", step.error)
        for change in step.changes:
            self.fold(step, change)
        return True

    def _erase(self, step: _Step) -> None:
        # On a repeated delivery, the stream may have begun anew already.
        keys = {
            change.key
            for change in step.changes
            if (row := self.rows.get(change.key)) is None or row.position < step.raw.position
        }
        for key in keys:
            self.rows[key] = self.changed[key] = None

        def goes(each: Parked) -> bool:
            return each.key in keys or (not each.key and each.stream == step.erased)

        self.released += [each for each in self._parked if goes(each)]
        self._parked = [each for each in self._parked if not goes(each)]
        self.newly_parked = [each for each in self.newly_parked if not goes(each)]
        self.held = [each for each in self.held if each.key not in keys]
        self._rows_parked -= keys
        self._streams_parked.discard(step.erased or "")

    def fold(self, step: _Step, change: RowChange) -> None:
        """Fold onto the row, unless it is parked."""
        key, _, event, _ = change
        if key in self._rows_parked:
            self.held.append(
                Held(self._view.name, key, event.stream, event.revision, event.position)
            )
            return
        try:
            after = fold_anywhere(self._view, self.rows.get(key), change)
        except (Exception, SystemExit) as error:  # the domain is an author's code
            self._park(step, key, error)
            return
        if after is not self.rows.get(key):
            self.rows[key] = self.changed[key] = after

    def refuse(self, steps: Sequence[_Step], key: str, error: Exception) -> None:
        """Park a row that Postgres rejects or does not find."""
        self.changed.pop(key, None)
        step = next(each for each in steps if any(change.key == key for change in each.changes))
        self._park(step, key, error, by_store=True)

    def _park(self, step: _Step, key: str, error: BaseException, *, by_store: bool = False) -> None:
        policy, name = self._view.on_poison, self._view.name
        self.newly_parked.append(park(policy, name, key, step.raw, error, by_store=by_store))
        if key:
            self._rows_parked.add(key)
        else:
            self._streams_parked.add(step.raw.stream)


def fold_anywhere(
    view: ViewDefinition, entry: VersionedRow | None, change: RowChange
) -> VersionedRow | None:
    """Fold an event that may precede others already folded: streams interleave.

    The row records the furthest event in the log, as if they were folded in order.
    """
    before = entry if entry is None else entry._replace(position=-1)
    _, key, event, also = change
    after = view.fold(before, event, key, also)
    if after is None or entry is None:
        return after
    if event.position >= entry.position:
        return after
    return VersionedRow(after.row, entry.revision, entry.position, entry.started)
