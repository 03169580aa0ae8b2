"""The newest events in memory, and a future that ends when there are more.

Live subscribers read from here, so that a committed event is neither read from disk nor encoded
again for any of them. The number and size of the events is bounded; a subscriber that falls behind
reads from disk until it has caught up, so no subscriber can make it grow.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

from eventstore.embedded.storage.event import Event

_EVENTS = 20_000
_BYTES = 64 * 1024 * 1024


class RecentEvents:
    """Events in position order. Used on the event loop alone."""

    def __init__(self, last_position: int) -> None:
        self._events: list[Event] = []
        self._positions: list[int] = []
        self._bytes = 0
        self._before = last_position
        self._last = last_position
        self._next_publication: asyncio.Future[None] | None = None

    @property
    def last_position(self) -> int:
        """Position of the newest committed event; 0 in an empty store."""
        return self._last

    def publish(self, events: list[Event]) -> None:
        """Add committed events and wake everyone who waits."""
        self._events += events
        self._positions += [event.position for event in events]
        self._bytes += sum(len(event.resp) for event in events)
        self._last = events[-1].position
        if len(self._events) > 2 * _EVENTS or self._bytes > 2 * _BYTES:
            self._shrink()
        published, self._next_publication = self._next_publication, None
        if published is not None and not published.done():
            published.set_result(None)

    def _shrink(self) -> None:
        """Drop the oldest events in one slice, so that the cost for each event stays constant."""
        drop = max(0, len(self._events) - _EVENTS)
        bytes_left = self._bytes - sum(len(event.resp) for event in self._events[:drop])
        while bytes_left > _BYTES and drop < len(self._events):
            bytes_left -= len(self._events[drop].resp)
            drop += 1
        if drop:
            self._before = self._positions[drop - 1]
            del self._events[:drop], self._positions[:drop]
            self._bytes = bytes_left

    def covers(self, position: int) -> bool:
        """Return whether every event after this position is still here."""
        return position >= self._before

    def after(self, position: int, limit: int) -> Sequence[Event]:
        """Return up to ``limit`` events after a position that is covered."""
        if position >= self._last:
            return ()
        at = bisect_right(self._positions, position)
        return self._events[at : at + limit]

    async def wait(self) -> None:
        """Return at the next publication. Check for events first: earlier ones do not count."""
        if self._next_publication is None:
            self._next_publication = asyncio.get_running_loop().create_future()
        # One future for all; shielded, so that cancelling one waiter does not cancel the others.
        await asyncio.shield(self._next_publication)
