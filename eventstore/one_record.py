"""Reads one record of a stream: the first, the last, or the one at a revision."""

from __future__ import annotations

from contextlib import aclosing, suppress

from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from eventstore.records import RawRecord


async def first_record(log: Log, stream: str, since: int = 0) -> RawRecord | None:
    """Return a stream's first record from revision `since` on; None if there is none.

    Raises:
        StreamTombstoned: the stream was deleted for good.
        StoreUnavailable: no answer.
    """
    after = since - 1 if since else None
    async with aclosing(log.read_stream(stream, after=after, limit=1)) as records:
        return await anext(records, None)


async def last_record(log: Log, stream: str) -> RawRecord | None:
    """Return a stream's last record; None if it has none.

    Raises:
        StreamTombstoned: the stream was deleted for good.
        StoreUnavailable: no answer.
    """
    async with aclosing(log.read_stream(stream, backwards=True, limit=1)) as records:
        return await anext(records, None)


async def record_at(log: Log, stream: str, revision: int) -> RawRecord | None:
    """Return the record at a revision; None if there is none or the stream was deleted.

    Raises:
        StoreUnavailable: no answer.
    """
    with suppress(StreamTombstoned):
        found = await first_record(log, stream, revision)
        if found is not None and found.revision == revision:  # a truncated stream may begin later
            return found
    return None
