"""An aggregate in memory: the fold of its stream, and the commands it has seen."""

from __future__ import annotations

import logging
from typing import Any

from actors.host.recent_commands import RecentCommands, Seen
from eventstore.records import TICKS, Metadata, RawRecord, recorded
from rayfold import Registry, UnknownEventType, UnreadableEvent
from rayfold.aggregate import AggregateType

log = logging.getLogger(__name__)


class Entity:
    """The state of one aggregate as of `revision` (-1: its stream does not exist).

    `optimistic`: a create command is decided without reading whether the stream exists. The store
    checks the append that follows, but nothing checks a refusal, so the stream is read before one
    is given. If the store treats a repeated append as done, the aggregate stays optimistic until an
    append at a later revision succeeds.
    """

    __slots__ = (
        "aggregate",
        "optimistic",
        "position",
        "recent",
        "revision",
        "snapshot_revision",
        "state",
        "stored",
        "stream",
        "used_at",
    )

    def __init__(self, aggregate: AggregateType, stream: str, *, optimistic: bool = False) -> None:
        self.aggregate = aggregate
        self.stream = stream
        self.state: Any = aggregate.begun()
        self.revision = -1
        self.position = 0
        self.recent = RecentCommands()
        self.optimistic = optimistic
        self.snapshot_revision = -1
        self.stored: Any = None
        """What the storage must remember of the aggregate beyond what is on the log."""
        self.used_at = 0.0

    @property
    def expected(self) -> int | None:
        """Return the expected revision for an append: the last one, or None for no stream."""
        return None if self.revision < 0 else self.revision

    def fold(self, registry: Registry, raw: RawRecord) -> None:
        """Fold the stream's next event, as it was read from the log.

        Raises:
            UnknownEventType, UnreadableEvent: see `Registry.decode`; also if the event cannot be
                folded.
        """
        state = self.state
        try:
            for event, *_ in recorded(registry, raw):
                state = self.aggregate.evolve(state, event)
        except (UnknownEventType, UnreadableEvent):
            raise
        except (Exception, SystemExit) as error:
            # The domain's `evolve` or upcaster failed: reported like any unreadable event.
            about = {"stream": raw.stream, "revision": raw.revision}
            log.exception("folding an aggregate failed", extra=about)
            reason = f"folding it failed: {error!r}"
            raise UnreadableEvent(raw.event_type, raw.stream, raw.revision, reason) from error
        self.state = state
        self.revision = revision = raw.revision
        self.position = position = raw.position
        metadata = Metadata(raw.metadata)
        command_id = metadata.get("commandId")
        if command_id:
            at = raw.created / TICKS if raw.created else self.recent.now()
            fingerprint = metadata.get("fingerprint", "")
            self.recent.add(command_id, Seen(fingerprint, revision, position, False, at))
