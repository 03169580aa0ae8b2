"""Events at places that were parked, read from the log again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from eventstore.records import RawRecord
from projections.poison import Held, Parked


async def events(log: Log, places: Sequence[Parked | Held]) -> AsyncIterator[RawRecord]:
    """Yield the events at these places, as far as their streams are not deleted.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    for place in places:
        after = place.revision - 1 if place.revision else None
        with suppress(StreamTombstoned):
            async for raw in log.read_stream(place.stream, after=after, limit=1):
                yield raw
