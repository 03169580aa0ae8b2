"""History, read from the log itself: the audit trail, and rows as they were in the past."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any

import msgspec

from eventstore.deletions import is_cut
from eventstore.errors import StreamTombstoned
from eventstore.one_record import last_record
from eventstore.port import Log
from eventstore.records import RawRecord, metadata_of
from projections import discarded_events as discards
from projections.errors import PastCut
from projections.folding import Folding
from projections.memory.table import no_json
from rayfold import Registry, VersionedRow, ViewDefinition, document
from rayfold.aggregate import AggregateType
from rayfold.foreign_json import UNREADABLE
from rayfold.personal import plain
from rayfold.runtime.turns import Turn


class History:
    """Reads single streams; data of many streams is for views."""

    def __init__(self, registry: Registry, log: Log) -> None:
        self._registry = registry
        self._log = log

    async def events(
        self,
        aggregate: AggregateType,
        aggregate_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield an aggregate's events in order, as written; none if it is unknown.

        Only those after a revision, and at most `limit`.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        stream, turn = aggregate.stream(aggregate_id), Turn()
        async with aclosing(self._readable(stream, limit, after)) as records:
            async for raw in records:
                await turn.pass_on()
                yield {
                    "type": raw.event_type,
                    "revision": raw.revision,
                    "position": raw.position,
                    "recorded_at": raw.recorded_at,
                    "data": _as_written(raw.data),
                    "metadata": metadata_of(raw),
                }

    async def last(self, aggregate: AggregateType, aggregate_id: str) -> tuple[int, int]:
        """Return revision and position of an aggregate's last event; -1 twice if it has none.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        with suppress(StreamTombstoned):
            raw = await last_record(self._log, aggregate.stream(aggregate_id))
            if raw is not None:
                return raw.revision, raw.position
        return -1, -1

    async def _readable(
        self, stream: str, limit: int | None = None, after: int | None = None
    ) -> AsyncGenerator[RawRecord, None]:
        """Yield a stream's events; none of a stream that was deleted, softly or for good."""
        with suppress(StreamTombstoned):
            reading = self._log.read_stream(stream, after=after, limit=limit)
            async with aclosing(reading) as records:
                async for raw in records:
                    yield raw

    async def as_of(
        self, view: ViewDefinition, key: str, stream: str, at: int | datetime
    ) -> tuple[bytes, int] | None:
        """Return the view's row at a revision or time, and the position of its last event then.

        It is folded from the one stream as stores do: an event that fails leaves the row unchanged,
        and discarded events are left out. None if the row had not begun.

        Raises:
            PastCut: the log does not have all events of the stream.
            StoreUnavailable: the log cannot be read.
            QueryFailed: the row is not JSON.
        """
        folding = Folding(self._registry, [view])
        folding.discarded = await discards.load(self._log, [view.name])
        row: VersionedRow | None = None
        is_whole = False
        turn = Turn()
        most = at + 1 if isinstance(at, int) else None
        async with aclosing(self._readable(stream, most)) as records:
            async for raw in records:
                if not is_whole and await is_cut(self._log, stream, raw.revision):
                    left = f"the log has nothing of it before revision {raw.revision} any more"
                    raise PastCut(f"what it was cannot be told: {left}")
                is_whole = True
                if isinstance(at, int):
                    if raw.revision > at:  # it was deleted and has begun again
                        break
                elif raw.recorded_at is not None and raw.recorded_at > at:
                    break
                await turn.pass_on()
                row = folding.fold_row(raw, key, row)
                if folding.has_noted:  # parked or stopped: later events wait behind it
                    break
        if row is None:
            return None
        try:
            return document(row), row.position
        except ValueError as error:  # the fold's result was not validated
            raise no_json(view.name, error) from error


def _as_written(data: bytes) -> msgspec.Raw | str:
    """Return an event's data unchanged, as decoding would round numbers; as text if it is not JSON.

    Another client may have written it, and all events of the stream form one document.
    """
    try:
        data.decode()
        msgspec.json.decode(data, type=msgspec.Raw)
    except UNREADABLE:
        return data.decode(errors="replace")
    return msgspec.Raw(plain(data))
