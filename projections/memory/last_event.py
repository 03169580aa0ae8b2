"""The last event that was folded into rows, and whether the log still has it.

A log that was restored to an earlier moment will have other events at the same positions. Folded
onto rows that include the lost events, they would give wrong rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from eventstore.errors import StreamTombstoned
from eventstore.one_record import first_record
from eventstore.port import Log
from eventstore.records import RawRecord, as_written


class LogChanged(Exception):
    """The log lacks events that were folded: it was restored to an earlier moment."""


class LastEvent(NamedTuple):
    """The last event that was folded: its place in the log, and a digest of it."""

    position: int
    stream: str
    revision: int
    digest: bytes

    @classmethod
    def of(cls, raw: RawRecord) -> LastEvent:
        """Return a record's place, with a digest of its data."""
        return cls(raw.position, raw.stream, raw.revision, _digest(raw))


class Found(Enum):
    """What the log has at an event's place."""

    THERE = "there"
    LOST = "lost"
    CUT = "cut"
    """Its stream was deleted or truncated, or may have been: it is unknown."""
    BEYOND = "beyond"
    """The log ends before it: the log has lost the event, or the node that answers lags behind."""


async def look_for(event: LastEvent, log: Log, prefixes: Sequence[str]) -> Found:
    """Return whether the log has the event; `prefixes` are those of the streams that it may be in.

    Raises:
        StoreUnavailable: no answer.
    """
    try:
        raw = await first_record(log, event.stream, event.revision)
    except StreamTombstoned:
        return Found.CUT
    if raw is not None and raw.revision == event.revision:
        return Found.THERE if _digest(raw) == event.digest else Found.LOST
    if await first_record(log, f"$${event.stream}") is not None:
        return Found.CUT
    return Found.LOST if await log.end_position(prefixes) >= event.position else Found.BEYOND


def _digest(raw: RawRecord) -> bytes:
    text = b"\n".join([raw.event_type.encode(), raw.metadata, as_written(raw)])
    return hashlib.blake2b(text, digest_size=12).digest()
