"""From records to changed rows: the one way in which every store folds.

A poison event stops its own key and no other. One that cannot be decoded stops its
stream, since its key is not known; one on which a view's fold breaks stops that row of
that view. What comes later for them is counted and left out: it would be folded onto a
row that lacks something.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from eventstore.records import RawRecord, recorded
from rayfold import Recorded, Registry, UnknownEventType, UnreadableEvent, View

log = logging.getLogger(__name__)


class Parked(NamedTuple):
    """Where folding stopped. `view` and `key` are empty when a whole stream is parked."""

    view: str
    key: str
    stream: str
    revision: int
    position: int
    error: str


class Step(NamedTuple):
    """An event that concerns a row of a view. Keys are text in every store."""

    view: type[View]
    key: str
    event: Recorded


class Folding:
    """Which events concern which rows, for some views."""

    def __init__(self, registry: Registry, views: Sequence[type[View]]) -> None:
        self._registry = registry
        self.parked: list[Parked] = []
        self._streams: set[str] = set()
        self._rows: set[tuple[str, str]] = set()
        self.left_out = 0
        self._concerned = {
            name: [view for view in views if event_type in view.folds]
            for name, event_type in registry.events.items()
        }

    def steps(self, raw: RawRecord) -> Iterator[Step]:
        """The rows that the event concerns."""
        if raw.stream in self._streams:
            self.left_out += 1
            return
        if not self._concerned.get(raw.event_type, True):
            return
        try:
            event = recorded(self._registry, raw)
        except (UnknownEventType, UnreadableEvent) as error:
            self.park(Parked("", "", raw.stream, raw.revision, raw.position, str(error)))
            return
        for view in self._concerned[event.event.name]:
            try:
                key = view.key_of(event.event)
            except Exception as error:  # the domain is a user's code
                self.park(Parked("", "", raw.stream, raw.revision, raw.position, repr(error)))
                return
            if key is None:
                continue
            text = str(key)
            if (view.name, text) in self._rows:
                self.left_out += 1
            else:
                yield Step(view, text, event)

    def broke(self, step: Step, error: Exception) -> Parked:
        """Parks the row on whose fold the event broke."""
        event = step.event
        parked = Parked(
            step.view.name, step.key, event.stream, event.revision, event.position, repr(error)
        )
        self.park(parked)
        return parked

    def park(self, parked: Parked) -> None:
        """From now on events of that row, or stream, are left out."""
        log.error("parked: %s", parked)
        self.parked.append(parked)
        if parked.view:
            self._rows.add((parked.view, parked.key))
        else:
            self._streams.add(parked.stream)
