"""Lanes: what was read of one key, and goes out in its order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from eventstore.records import RawRecord
from projections.publications.outgoing import Outgoing
from projections.publications.window import Pending

MOST_IN_LANE = 200
"""Of one key: one that has more is parked at its next failure, so that others find room."""


class Waiting(NamedTuple):
    """An event on its way, with the record that leads to it."""

    outgoing: Outgoing
    raw: RawRecord
    pending: Pending


class Lane:
    """Events of one key; `full` while there are too many, `late` once one was not taken at once.

    `unasked`: the receiver was not asked meanwhile, so that what has come is not for its delay.
    """

    def __init__(self) -> None:
        self.queue: deque[Waiting] = deque()
        self.full = asyncio.Event()
        self.late = False
        self.unasked = False

    def add(self, waiting: Waiting) -> None:
        """Let an event wait behind the others."""
        self.queue.append(waiting)
        if len(self.queue) > MOST_IN_LANE:
            self.full.set()

    def taken(self) -> None:
        """Let the first event go."""
        self.queue.popleft()
        if len(self.queue) <= MOST_IN_LANE:
            self.full.clear()
            self.unasked = False

    def refused(self) -> None:
        """Note that the receiver did not take the first event."""
        self.late = True
        if self.unasked:
            self.full.clear()
        self.unasked = False
