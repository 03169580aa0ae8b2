"""Lanes: the events of one key, delivered in order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from eventstore.records import RawRecord
from projections.publications.outgoing import Outgoing
from projections.publications.window import Pending

MOST_IN_LANE = 200
"""The most events of a lane: one with more is parked at its next failure, to make room for
others.
"""


class Waiting(NamedTuple):
    """An event to be delivered, with the record that it comes from."""

    outgoing: Outgoing
    raw: RawRecord
    pending: Pending


class Lane:
    """A key's events; `full` while there are too many, `late` once one was not accepted at once.

    `unasked`: the receiver was not called meanwhile, so waiting events are not due to its delay.
    """

    def __init__(self) -> None:
        self.queue: deque[Waiting] = deque()
        self.full = asyncio.Event()
        self.late = False
        self.unasked = False

    def add(self, waiting: Waiting) -> None:
        """Append an event."""
        self.queue.append(waiting)
        if len(self.queue) > MOST_IN_LANE:
            self.full.set()

    def taken(self) -> None:
        """Remove the first event."""
        self.queue.popleft()
        if len(self.queue) <= MOST_IN_LANE:
            self.full.clear()
            self.unasked = False

    def refused(self) -> None:
        """Record that the receiver did not accept the first event."""
        self.late = True
        if self.unasked:
            self.full.clear()
        self.unasked = False
