"""An aggregate as it was after each of its events.

A slider requests one revision after the other, and the state after the 50,000th takes a fold of all
events before it. So some intermediate states are kept for the streams used last, and folding lets
other tasks of the process run.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from contextlib import aclosing
from typing import Any, NamedTuple

from eventstore.deletions import is_cut
from eventstore.one_record import first_record, last_record
from eventstore.port import Log
from eventstore.records import RawRecord, recorded
from rayfold import Registry
from rayfold.runtime.turns import Turn

REMEMBERED = 4
"""Streams for which states are kept."""

EVERY = 500
"""Events between two kept states, in streams that are not too long."""

MOST_STATES = 128
"""States kept per stream: a longer stream has them twice as far apart, and so on."""


class Moment(NamedTuple):
    """An event, and the states before and after it; `error` says why it is not folded.

    `first` and `last` are the existing revisions.
    """

    first: int
    last: int
    event: RawRecord
    before: Any
    state: Any
    error: str


class _Known:
    """The known states of a stream that begins at `first`, by revision in order."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._every = EVERY
        self._revisions: list[int] = []
        self._states: list[Any] = []

    def before(self, revision: int) -> tuple[int, Any] | None:
        """Return the last revision before that one whose state is known, with the state."""
        at = bisect_left(self._revisions, revision) - 1
        return (self._revisions[at], self._states[at]) if at >= 0 else None

    def note(self, revision: int, state: Any) -> None:
        """Keep a state, if it is far enough from the last."""
        if revision - (self._revisions[-1] if self._revisions else self.first) < self._every:
            return
        self._revisions.append(revision)
        self._states.append(state)
        if len(self._states) > MOST_STATES:
            self._every *= 2
            del self._revisions[::2], self._states[::2]


class ThroughTime:
    """Folds streams of the domain's aggregates."""

    def __init__(self, registry: Registry, log: Log) -> None:
        self._registry = registry
        self._log = log
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def at(self, stream: str, revision: int | None = None) -> Moment | None:
        """Return an aggregate at a revision, the last by default; None if there is none.

        Raises:
            StreamTombstoned: the stream was deleted for good.
            StoreUnavailable: the log cannot be read.
        """
        aggregate: Any = self._registry.aggregates.get(stream.partition("-")[0])
        if aggregate is None:
            return None
        newest = await last_record(self._log, stream)
        oldest = await first_record(self._log, stream)
        if newest is None or oldest is None:
            return None
        first, last = oldest.revision, newest.revision
        until = max(last if revision is None else min(revision, last), first)
        known = self._remembered(stream, first)
        after, state = known.before(until) or (None, aggregate.begun())
        before = state
        shown, error, turn = oldest, "", Turn()
        if await is_cut(self._log, stream, first):
            after, error = until - 1, f"the log has nothing of it before revision {first} any more"
        most = until - (first - 1 if after is None else after)
        async with aclosing(self._log.read_stream(stream, after=after, limit=most)) as records:
            async for raw in records:
                if raw.revision > until:  # the stream was truncated meanwhile
                    break
                before, shown = state, raw
                if error:
                    break
                try:
                    for each in recorded(self._registry, raw):
                        state = aggregate.evolve(state, each.event)
                except (Exception, SystemExit) as failure:  # the domain's own code
                    error = f"revision {raw.revision} cannot be folded: {failure}"
                    break
                await turn.pass_on()
                known.note(raw.revision, state)
        return Moment(first, last, shown, before, state, error)

    def _remembered(self, stream: str, first: int) -> _Known:
        if stream.partition("-")[0] in self._registry.with_personal_data:
            return _Known(first)  # not kept: a person in it may be forgotten by the next call
        known = self._known.pop(stream, None)
        if known is None or known.first != first:  # deleted and begun again, or truncated
            known = _Known(first)
        self._known[stream] = known
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return known
