"""Reads parked events from the log again, by their places."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from eventstore.one_record import record_at
from eventstore.port import Log
from eventstore.records import RawRecord
from projections.poison import Held, Parked


async def events(log: Log, places: Sequence[Parked | Held]) -> AsyncIterator[RawRecord]:
    """Yield the events at these places, except those of deleted streams.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    for place in places:
        if (raw := await record_at(log, place.stream, place.revision)) is not None:
            yield raw
