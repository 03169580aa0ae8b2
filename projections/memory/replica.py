"""A memory replica: whole views in memory, folded from the log as it grows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any

from eventstore.deletions import is_of_the_server, with_deletions
from eventstore.errors import StoreUnavailable
from eventstore.folded_log import FoldedLog
from eventstore.port import Log
from eventstore.records import RawRecord
from projections import discarded_events as discards
from projections.errors import BadCursor, QueryFailed
from projections.folding import Folding, Step
from projections.memory.bootstrap import Filled
from projections.memory.last_event import Found, LastEvent, LogChanged, look_for
from projections.memory.subscriptions import Subscriptions
from projections.memory.table import Moment, Table, no_json
from projections.newly_parked import Comparison, NewlyParked, would_park
from projections.partitions import AlreadyProjected
from projections.poison import Parked
from projections.row_query import RowQuery, RowResult, Snapshot
from projections.supervision.condition import AtWork, working_on
from projections.supervision.progress import Progress
from rayfold import Registry
from rayfold.runtime.tracing import Span, tracing
from rayfold.runtime.turns import Turn

log = logging.getLogger(__name__)

SLICE = 100
"""Rows that are frozen before queries get their turn: about 2 milliseconds."""

COOL = 5.0
"""Seconds of this interval; a row is cold after one to two intervals without a change."""

CHASES = 3
"""Rounds in which a rebuilt view tries to catch up with the live one before that is paused."""

CATCH_UP = 30.0
"""Seconds in which a replica must reach the log's end before one of its views is rebuilt."""

LAG = 15.0
"""Seconds for which the log may end before what was folded: the node that answers may have been the
leader until now, and lack the newest events. After that they are considered lost.
"""

RETRY = 0.25
"""Seconds before a broken subscription is restarted."""


class Replica:
    """Holds some views of a domain; plain asyncio, on any `Log`."""

    def __init__(self, registry: Registry, views: Sequence[str], log: Log) -> None:
        self._registry = registry
        self._log = log
        self._prefixes = with_deletions(registry.prefixes)
        types = [registry.views[name] for name in views]
        self._folding = Folding(registry, types)
        self.tables = {view.name: Table(view) for view in types}
        self.progress = Progress()
        self.caught_up = asyncio.Event()
        self.subscriptions = Subscriptions()
        self.events = 0
        self._newest: RawRecord | None = None
        """The last of the domain's events that was folded here."""
        self._last: LastEvent | None = None
        self._beyond_since: float | None = None
        self.since_snapshot = 0
        """The number of events that were folded since the last snapshot."""
        self.erased: set[str] = set()
        """Views that lost rows because their streams were deleted."""
        self._filled: dict[str, int] = {}
        """By view: the number of rows that came from Postgres or a snapshot."""
        self._rebuilding: dict[str, tuple[int, int]] = {}
        """By view being rebuilt: the position that it has reached, and the number of events."""
        self._may_fold = asyncio.Event()
        self._may_fold.set()
        self._working: AtWork | None = None
        self._tracing = tracing()

    def _traced(self, records: Sequence[RawRecord]) -> Span | None:
        assert self._tracing is not None
        metadata = (raw.metadata for raw in records)
        about = {"rayfold.views": list(self.tables), "rayfold.events": len(records)}
        return self._tracing.of_batch("apply memory", metadata, about)

    async def begin(self, filled: Sequence[Filled]) -> None:
        """Call before `run`: take over rows that were stored elsewhere, to fold on from there.

        A table that is ahead of the log belongs to another log, or to one that was restored to an
        earlier moment: it is not used, as an event that the log has lost may have removed rows. If
        only its checkpoint is ahead of the domain's last event, it includes all that the log has:
        all new events are folded.

        Raises:
            StoreUnavailable: the log's end is unknown; nothing was taken over.
        """
        end = await self._log.end_position(self._prefixes)
        furthest = {table.view.name: covered.most for table, covered, _, _ in filled}
        lost = await FoldedLog(self._log, self._prefixes).lacks(furthest)
        begun = dict.fromkeys(self.tables, 0)
        for table, covered, parked, last in filled:
            view = table.view.name
            rows = table.rows.values()
            if view in lost or max((row.position for row in rows), default=0) > end:
                log.warning("rows of %r that were kept are of another log", view)
                continue
            self.tables[view] = table
            covered = covered.within(end)
            self._folding.cover(view, covered)
            for each in parked:
                self._folding.park(each)
            self._saw(last)
            self._filled[view] = len(table.rows)
            begun[view] = covered.least
        self.progress.advance(min(begun.values(), default=0))

    @property
    def last(self) -> LastEvent | None:
        """The last of the domain's events that any row includes, folded here or before."""
        if self._newest is not None:
            self._last, self._newest = LastEvent.of(self._newest), None
        return self._last

    def position(self) -> int:
        """Return the position up to which all of the domain's events are folded; 0 if unknown."""
        return min(self.progress.position, self.last.position) if self.last else 0

    def _saw(self, last: LastEvent | None) -> None:
        if last is not None and (self.last is None or self.last.position < last.position):
            self._last = last

    async def run(self) -> None:
        """Follow the log forever; after an error, try again.

        Raises:
            LogChanged: the log lacks events that were folded; the rows here are wrong.
        """
        while True:
            try:
                await self._follow()
            except StoreUnavailable as error:
                log.info("the subscription broke", extra={"error": str(error)})
                await asyncio.sleep(RETRY)

    async def freeze_cold(self) -> None:
        """Forever keep unchanged rows as JSON only, and forget dead gateways."""
        while True:
            await asyncio.sleep(COOL)
            self.subscriptions.forget_gone()
            for table in list(self.tables.values()):
                cold = table.cold()
                for at in range(0, len(cold), SLICE):
                    table.freeze(cold[at : at + SLICE])
                    await asyncio.sleep(0)

    async def _check_log(self) -> None:
        """Check that the log still has what was folded: it may have been restored meanwhile.

        Raises:
            LogChanged: it has not.
            StoreUnavailable: no answer, or from a node that may still lack the newest events.
        """
        if self.last is None:
            return
        found = await look_for(self.last, self._log, self._prefixes)
        if found is Found.BEYOND:
            now = time.monotonic()
            if self._beyond_since is None:
                self._beyond_since = now
            if now - self._beyond_since < LAG:
                raise StoreUnavailable("the log ends before what was folded")
        if found in (Found.BEYOND, Found.LOST):
            place = f"{self.last.revision}@{self.last.stream}"
            raise LogChanged(f"the log does not have {place}, which was folded from it")
        self._beyond_since = None

    async def _follow(self) -> None:
        await self._check_log()
        after = self.progress.position or None
        self._folding.discarded = await discards.load(self._log, self.tables)
        async with aclosing(self._log.subscribe(self._prefixes, after)) as batches:
            async for batch in batches:
                await self._may_fold.wait()
                if batch.records:
                    self._working = AtWork.begins(batch.records)
                span = self._traced(batch.records) if self._tracing is not None else None
                turn, told = Turn(), 0
                for at, raw in enumerate(batch.records, 1):
                    for step in _fold(self.tables, self._folding, raw):
                        self.subscriptions.note(step.view.name, step.key)
                        if step.erases:
                            self.erased.add(step.view.name)
                    if turn.over:
                        self._has_folded(batch.records[told:at])
                        told = at
                        await turn.pass_on()
                self._working = None
                if span is not None:
                    span.end()
                self.events += len(batch.records)
                self.since_snapshot += len(batch.records)
                self._has_folded(batch.records)
                self.progress.advance(batch.position)
                if batch.caught_up:
                    self.caught_up.set()

    def _has_folded(self, records: Sequence[RawRecord]) -> None:
        if records:
            ours = (raw for raw in reversed(records) if not is_of_the_server(raw))
            self._newest = next(ours, self._newest)
            self.progress.advance(records[-1].position)

    async def rebuild(self, view: str, *, accept_parked: bool = False) -> None:
        """Fold a view again from the log beside the live one, then replace that.

        Raises:
            WouldPark: the new one would serve fewer keys, and `accept_parked` is not set; the live
                one stays.
            StoreUnavailable: the log cannot be read; the live one stays.
        """
        view_type = self.tables[view].view
        if self._registry.is_personal:
            await self._caught_up_with_log()
        folding, table = Folding(self._registry, [view_type]), Table(view_type)
        folding.discarded = await discards.load(self._log, [view])
        covered = 0
        rounds = count()
        try:
            while covered < self.progress.position:
                if next(rounds) == CHASES:
                    self._may_fold.clear()  # otherwise it might never be caught up with under load
                covered = await self._refold(table, folding, covered)
            # There was no `await` since the comparison, so both tables are at the same position.
            if new := self._newly_parked(view, folding):
                worse = would_park(view, "memory", new)
                if not accept_parked:
                    raise worse
                why = {"error": str(worse)}
                log.error("a rebuilt view is used although it parks keys", extra=why)
            self.tables[view] = table
            self._folding.adopt(view, folding)
            self.subscriptions.note_all(view)
        finally:
            self._may_fold.set()
            self._rebuilding.pop(view, None)

    def _newly_parked(self, view: str, fresh: Folding) -> NewlyParked | None:
        """Return what `fresh` has parked and this replica serves, or where it stopped earlier."""
        stopped = self._folding.stopped.get(view)
        compared = Comparison(stopped.position - 1 if stopped else self.progress.position)
        for each in self._folding.parked:
            if each.view == view:
                compared.live(each)
        for each in [*fresh.parked, *fresh.stopped.values()]:
            compared.built(each)
        return compared.newly_parked

    async def _caught_up_with_log(self) -> None:
        """Wait until all events read before now are folded: a person may be forgotten since.

        Otherwise events that were read and decrypted earlier would be folded into the new table.

        Raises:
            StoreUnavailable: it does not get there in time.
        """
        end = await self._log.end_position(self._prefixes)
        if not await self.progress.reached(end, CATCH_UP):
            raise StoreUnavailable("the replica is behind the log, and does not advance")

    async def _refold(self, table: Table, folding: Folding, after: int) -> int:
        """Fold the events after a position, as far as this replica; return the position reached."""
        there = self.progress.position  # the log has at least this much
        _, folded = self._rebuilding.get(table.view.name, (0, 0))
        turn = Turn()
        # Only streams that concern the view: it may be a small part of a large log.
        prefixes = with_deletions(self._registry.prefixes_of([table.view]))
        async with aclosing(self._log.read_all(prefixes, after=after or None)) as records:
            async for raw in records:
                if raw.position > self.progress.position:
                    return self.progress.position
                _fold({table.view.name: table}, folding, raw)
                folded += 1
                if turn.over:
                    self._rebuilding[table.view.name] = raw.position, folded
                    await turn.pass_on()
                after = raw.position
        return max(after, there)

    def answer(self, queries: Sequence[RowQuery]) -> list[RowResult | BadCursor | QueryFailed]:
        """Return an answer for each query at once; one that cannot be answered fails alone."""
        return [self._told(query) for query in queries]

    def _told(self, query: RowQuery) -> RowResult | BadCursor | QueryFailed:
        try:
            return self._answer(query)
        except ValueError as error:  # the fold's result was not validated, and is not JSON
            return no_json(query.view, error)

    def _answer(self, query: RowQuery) -> RowResult | BadCursor:
        position = self.progress.position
        if query.view in self._folding.stopped:
            position = self._folding.stopped[query.view].position - 1
        if query.at_least > position:
            return RowResult(None, None, position, late=True)
        table = self.tables[query.view]
        if query.key is not None:
            row = table.rows.get(query.key)
            if row is None:
                return RowResult(None, None, position)
            return RowResult(row.json(), row.revision, position)
        try:
            body, _ = table.page(query.filters, query.limit, query.cursor)
        except BadCursor as error:
            return error
        return RowResult(body, None, position)

    def begin_copy(self) -> tuple[int, dict[str, list[str]], list[Parked], list[Parked]]:
        """Return where a peer that copies these rows must continue, the keys, and what is parked.

        The copy need not be of one moment: each row has its own position, so an event that is
        already in a copied row is not folded again. `Table.end_copy` returns the rows that were
        removed meanwhile.
        """
        keys = {name: table.begin_copy() for name, table in self.tables.items()}
        stopped = list(self._folding.stopped.values())
        return self.progress.position, keys, list(self._folding.parked), stopped

    def take_over(
        self,
        position: int,
        gone: Mapping[str, Mapping[str, int]],
        parked: Sequence[Parked],
        stopped: Sequence[Parked] = (),
        last: LastEvent | None = None,
    ) -> None:
        """Finish a copy: all rows of a peer are in the tables; continue where `begin_copy` said.

        `gone` has, by view, the keys of rows that were removed since then; `last` is the peer's
        last event now.
        """
        self._saw(last)
        for name, table in self.tables.items():
            table.without(gone[name])
            table.filled()
            self._folding.cover(name, AlreadyProjected([position], gone[name]))
        for each in parked:
            # A parked row is only removed with its stream: then nothing waits behind it.
            if each.key not in gone[each.view]:
                self._folding.park(each)
        self._folding.stopped = {each.view: each for each in stopped}
        self.progress.advance(position)

    def take_erased(self) -> set[str]:
        """Return the views from which rows were erased since the last call."""
        erased, self.erased = self.erased, set()
        return erased

    def parked(self) -> Sequence[Parked]:
        """Return parked rows and streams, and stopped views, `in_order`."""
        return self._folding.listed()

    def rows(self, view: str) -> list[tuple[str, bytes, int]]:
        """Return key, document and position of every row."""
        return [(key, row.json(), row.position) for key, row in self.tables[view].rows.items()]

    def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """Return every row, and an answer to each query, as of one moment."""
        table, moment, pages = self.begin_snapshot(view, queries)
        table.end(moment)
        return Snapshot(moment.given(0, len(moment.keys)), pages)

    def begin_snapshot(
        self, view: str, queries: Sequence[RowQuery]
    ) -> tuple[Table, Moment, list[bytes]]:
        """Return a view's rows as of now, to be read piece by piece, and the answers.

        There may be very many rows, and queries go on meanwhile.
        """
        table = self.tables[view]
        pages = [table.page(each.filters, each.limit, each.cursor)[0] for each in queries]
        return table, table.moment(), pages

    async def changes(
        self, watcher: str, timeout: float
    ) -> list[tuple[str, str, RowResult]] | None:
        """Return the newest state of every watched row that changed since the last answer.

        Return None if the watcher is unknown.
        """
        changed = await self.subscriptions.changes(watcher, timeout)
        if changed is None:
            return None
        answers = []
        for view, key in changed:
            result = self._told(RowQuery(view, key, 0, {}, 0, None))
            if isinstance(result, RowResult):  # otherwise whoever asks for the row gets the error
                answers.append((view, key, result))
        return answers

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        stopped = {view: parked.error for view, parked in self._folding.stopped.items()}
        return {
            "views": list(self.tables),
            "position": self.progress.position,
            "ready": self.caught_up.is_set(),
            "rows": {name: len(table.rows) for name, table in self.tables.items()},
            "events": self.events,
            "left_out": self._folding.left_out,
            **({"filled": self._filled} if self._filled else {}),
            **({"rebuilding": dict(self._rebuilding)} if self._rebuilding else {}),
            **({"stopped": stopped} if stopped else {}),
            **working_on(self._working),
            **self._folding.told_of_parked(),
        }


def _fold(tables: Mapping[str, Table], folding: Folding, raw: RawRecord) -> list[Step]:
    """Fold an event; return steps for the rows that it changed."""
    steps = folding.steps(raw)
    changed = [step for step in steps if tables[step.view.name].fold(step, folding)]
    folding.take_noted()  # a row that is parked here is only folded again with its view
    return changed
