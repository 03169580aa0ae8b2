"""A message of a group: an event on its way to some consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.embedded.protocol import event_encoding
from eventstore.embedded.storage.event import Event

if TYPE_CHECKING:
    from eventstore.embedded.persistent.consumer import Consumer
    from eventstore.embedded.storage.log_reader import LogReader

_LARGE = 64 * 1024


class _OnDisk(Event):
    """A large event whose bytes are read on demand."""

    __slots__ = ("_log",)

    def __init__(self, log: LogReader, event: Event) -> None:
        for name in Event.__slots__:
            if name != "resp":
                setattr(self, name, getattr(event, name))
        self._log = log

    @property
    def resp(self) -> bytes:  # type: ignore[override]
        """Return the stored response."""
        (event,) = self._log.events_at((self.position,))
        return event.resp


def held(log: LogReader, event: Event) -> Event:
    """Return an event in a form to keep in memory: hundreds are in flight, each up to 16 MiB."""
    return _OnDisk(log, event) if len(event.resp) > _LARGE else event


class Message:
    """A message, from its read until it is acknowledged, skipped or durably parked."""

    __slots__ = (
        "bucket", "consumer", "dangling", "deadline", "order", "original", "parking", "pushed_at",
        "replayed", "retries", "target",
    )  # fmt: skip

    def __init__(
        self, original: Event, target: Event | None, order: int, replayed: int | None = None
    ) -> None:
        self.original = original
        """The record whose id is acknowledged: the link, if there is one."""
        self.target = target
        """The target of the link; None if the original is sent as it is."""
        self.order = order
        """Revision, or position in ``$all``: what checkpoints count."""
        self.replayed = replayed
        """Revision in the parked stream, if it comes from there: it then delays no checkpoint."""
        self.dangling = False
        """Whether the original is a link to be resolved whose target no longer exists."""
        self.bucket: int | None = None
        """The bucket of a pinned group; computed once, since that may decode the event."""
        self.retries = 0
        self.consumer: Consumer | None = None
        self.deadline = 0.0
        self.pushed_at = 0.0
        self.parking = False

    @property
    def key_event(self) -> Event:
        """The event that decides about pinning."""
        return self.target or self.original

    def encode(self, structured: bool, retries: int) -> bytes:
        """Return the response for a consumer."""

        def form(record: bytes) -> bytes:
            return event_encoding.structured_record(record) if structured else record

        original = form(event_encoding.record_of(self.original.resp))
        position = self.original.position
        if self.dangling:
            return event_encoding.read_event(None, original, position, retries)
        if self.target is None:
            return event_encoding.read_event(original, None, position, retries)
        # Groups give both records the link's position; reads leave each its own.
        target = self.target.record()
        target.commit_position = target.prepare_position = position
        resolved = form(target.SerializeToString())
        return event_encoding.read_event(resolved, original, position, retries)
