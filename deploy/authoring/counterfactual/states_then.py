"""Past states of aggregates, while the log is walked in its order."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from eventstore.records import Metadata, RawRecord, recorded
from rayfold import Registry
from rayfold.aggregate import AggregateType

MOST = 100_000
"""The most states in memory: others are folded again when they are needed."""


class HistoryGone(Exception):
    """The past state is unknown: some of its events are no longer there."""


class HistoryUnreadable(Exception):
    """The current code cannot read or fold the recorded events."""


@dataclass(slots=True)
class Folded:
    """An aggregate at `revision`; -1: its stream did not exist.

    `last` is the command that led there; `error` says why it cannot be folded further.
    """

    aggregate: AggregateType
    state: Any
    revision: int = -1
    last: str = ""
    error: str = ""


class StatesThen:
    """Keeps at most `most` states, the most recently used. Only requested aggregates are folded."""

    def __init__(self, registry: Registry, log: Log, most: int = MOST) -> None:
        self._registry = registry
        self._log = log
        self._most = most
        self._known: OrderedDict[str, Folded] = OrderedDict()
        self._deleted: dict[str, None] = {}

    async def of(
        self, aggregate: AggregateType, stream: str, before: int | None, position: int
    ) -> Folded:
        """Return the aggregate before that revision, or else before that position.

        `before` is None if its revision was not recorded.

        Raises:
            HistoryGone, HistoryUnreadable: the state is unknown.
            StoreUnavailable: the log cannot be read.
        """
        known = self._known.get(stream)
        if (
            known is None
            or known.aggregate is not aggregate
            or (before is not None and not known.error and known.revision != before - 1)
        ):
            known = await self._read(aggregate, stream, before, position)
            self._known[stream] = known
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(stream)
        if known.error:
            raise HistoryUnreadable(known.error)
        return known

    def fold(self, raw: RawRecord) -> None:
        """Apply an event, which is the next one of its stream."""
        known = self._known.get(raw.stream)
        if known is not None and not known.error:
            _fold(self._registry, known, raw)

    def deleted(self, stream: str) -> None:
        """Reset a stream that was deleted: it may begin again."""
        self._known.pop(stream, None)
        self._deleted[stream] = None

    async def _read(
        self, aggregate: AggregateType, stream: str, before: int | None, position: int
    ) -> Folded:
        found = Folded(aggregate, aggregate.begun())
        if before == 0:
            return found
        expected = None if stream in self._deleted else 0
        try:
            async with aclosing(self._log.read_stream(stream)) as records:
                async for raw in records:
                    over = raw.position >= position if before is None else raw.revision >= before
                    if over:
                        break
                    if expected is not None and raw.revision != expected:
                        raise HistoryGone(f"{stream} begins at revision {raw.revision} today")
                    _fold(self._registry, found, raw)
                    if found.error:
                        return found
                    expected = raw.revision + 1
        except StreamTombstoned as error:
            raise HistoryGone(f"{stream} was deleted") from error
        if before is not None and found.revision != before - 1 and expected is not None:
            raise HistoryGone(f"{stream} has no events before revision {before} any more")
        return found


def _fold(registry: Registry, known: Folded, raw: RawRecord) -> None:
    state = known.state
    try:
        for event, *_ in recorded(registry, raw):
            state = known.aggregate.fold([event], state)
    except (Exception, SystemExit) as error:  # of an upcaster or of `evolve`
        known.error = f"{raw.revision}@{raw.stream}: {type(error).__name__}: {error}"
        return
    known.state, known.revision = state, raw.revision
    known.last = Metadata(raw.metadata).get("commandId", "")
