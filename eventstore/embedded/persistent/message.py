"""A message of a group: an event on its way to some consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.embedded import wire
from eventstore.embedded.event import Event

if TYPE_CHECKING:
    from eventstore.embedded.persistent.consumer import Consumer


class Message:
    """From the log until it is acknowledged, skipped or durably parked."""

    __slots__ = (
        "consumer", "deadline", "order", "original", "parking", "pushed_at", "replayed",
        "retries", "target",
    )  # fmt: skip

    def __init__(
        self, original: Event, target: Event | None, order: int, replayed: int | None = None
    ) -> None:
        self.original = original
        """The record whose id is acknowledged: the link, where there is one."""
        self.target = target
        """What the link points at; None if the original is sent as it is."""
        self.order = order
        """Revision, or position in ``$all``: what checkpoints count."""
        self.replayed = replayed
        """Revision in the parked stream, if it comes from there; such don't hold checkpoints."""
        self.retries = 0
        self.consumer: Consumer | None = None
        self.deadline = 0.0
        self.pushed_at = 0.0
        self.parking = False

    @property
    def key_event(self) -> Event:
        """The event that decides about pinning."""
        return self.target or self.original

    def encode(self, structured: bool) -> bytes:
        """The response for a consumer."""

        def form(event: Event) -> bytes:
            record = wire.record_of(event.resp)
            return wire.structured_record(record) if structured else record

        original = form(self.original)
        position = self.original.position
        if self.target is None:
            return wire.read_event(original, None, position, self.retries)
        return wire.read_event(form(self.target), original, position, self.retries)
