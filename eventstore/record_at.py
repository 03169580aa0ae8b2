"""The record at a place of a stream, or none: one that was deleted may have begun again."""

from __future__ import annotations

from contextlib import suppress

from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from eventstore.records import RawRecord


async def record_at(log: Log, stream: str, revision: int) -> RawRecord | None:
    """Return one record of a stream; None where there is none.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    after = revision - 1 if revision else None
    with suppress(StreamTombstoned):
        async for raw in log.read_stream(stream, after=after, limit=1):
            return raw if raw.revision == revision else None
    return None
