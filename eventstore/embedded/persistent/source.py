"""Where a group's new events come from: a stream or ``$all``, read when there is room for them."""

from typing import Protocol

from eventstore.embedded.persistent.message import Message, held
from eventstore.embedded.persistent.settings import GroupSettings
from eventstore.embedded.protocol.constants import FLAG_HIDDEN, MAX
from eventstore.embedded.protocol.event_encoding import record_of
from eventstore.embedded.storage.event import Event, Record
from eventstore.embedded.storage.links import is_link, target_of
from eventstore.embedded.storage.log_reader import LogReader


class Source(Protocol):
    """A cursor over events."""

    next: int
    """First revision or position that was not read yet."""
    skipped: int
    """Events that were read but not delivered to the group; they count as progress too."""

    def read(self, limit: int) -> list[Message]:
        """Return the next messages; may be empty although there are more events to read."""

    @property
    def level(self) -> bool:
        """Whether everything committed has been read."""

    @property
    def last_known(self) -> int:
        """The newest revision or position; -1 if there is none."""


def _messages(log: LogReader, events: list[Event], resolve: bool, on_all: bool) -> list[Message]:
    messages = []
    for event in events:
        order = event.position if on_all else event.revision
        target: Event | None = None
        linked = False
        if resolve and is_link(event.resp):
            linked, target = target_of(log, Record.FromString(record_of(event.resp)))
        message = Message(held(log, event), None if target is None else held(log, target), order)
        message.dangling = linked and target is None
        messages.append(message)
    return messages


class StreamSource:
    """One stream's readable events."""

    def __init__(self, log: LogReader, settings: GroupSettings, start: int) -> None:
        self._log = log
        self._stream = settings.stream
        self._resolve = settings.resolve_links
        self.next = start
        self.skipped = 0

    def read(self, limit: int) -> list[Message]:
        """Read from the cursor to the end of the stream."""
        info = self._log.info(self._stream)
        if info.last == MAX or not info.exists:
            return []
        first, last = self._log.window(info)
        at = max(self.next, first)
        if at > last:
            # Truncated or expired events count as read, else the group would never be level.
            self.next = last + 1
            return []
        events = self._log.stream_events(info.sid, at, last, limit)
        if events:
            self.next = events[-1].revision + 1
        return _messages(self._log, events, self._resolve, on_all=False)

    @property
    def level(self) -> bool:
        """Whether everything was read; also true of a deleted stream."""
        info = self._log.info(self._stream)
        return info.last == MAX or not info.exists or self.next > info.last

    @property
    def last_known(self) -> int:
        """Last revision."""
        last = self._log.info(self._stream).last
        return -1 if last == MAX else last


class AllSource:
    """``$all`` behind the group's filter."""

    def __init__(self, log: LogReader, settings: GroupSettings, start: int) -> None:
        self._log = log
        self._match = settings.event_filter()
        self._resolve = settings.resolve_links
        self.next = start
        self.skipped = 0

    def read(self, limit: int) -> list[Message]:
        """Read one bounded step; events that do not match move the cursor too."""
        after = self.next - 1
        recent = self._log.recent
        if after >= recent.last_position:
            return []
        if recent.covers(after):
            looked_at = recent.after(after, limit)
            events = [event for event in looked_at if self._match.shows(event)]
            self.next = looked_at[-1].position + 1
            # Hidden events do not count: a checkpoint is one, and would cause the next checkpoint.
            shown = sum(1 for event in looked_at if not event.flags & FLAG_HIDDEN)
            self.skipped += shown - len(events)
        else:
            rows, reached = self._log.scan_forwards(after, self._match, limit)
            events = self._log.events_at([position for position, _ in rows]) if rows else []
            self.next = reached + 1
            self.skipped += reached - after - len(events)
        return _messages(self._log, events, self._resolve, on_all=True)

    @property
    def level(self) -> bool:
        """Whether the cursor is behind the newest event."""
        return self.next > self._log.recent.last_position

    @property
    def last_known(self) -> int:
        """Newest position."""
        return self._log.recent.last_position or -1


def make_source(log: LogReader, settings: GroupSettings, start: int) -> Source:
    """Return the source that settings ask for."""
    kind = AllSource if settings.on_all else StreamSource
    return kind(log, settings, start)
