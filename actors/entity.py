"""An aggregate in memory: the fold of its stream, and the commands it has seen."""

from __future__ import annotations

from typing import Any

from actors.recent import RecentCommands, Seen, now
from eventstore.records import TICKS, RawRecord, recorded
from rayfold import Aggregate, Registry

AggregateType = type[Aggregate[Any, Any, Any]]


class Entity:
    """The state of one aggregate as of `revision` (-1: its stream does not exist).

    `guessed`: nobody looked whether the stream exists. What is appended on a guess is
    checked by the store; a refusal is not, so before one the stream is read. A store
    that takes a repeated append for done also leaves the guess standing, until an append
    at a later revision succeeds.
    """

    __slots__ = (
        "aggregate",
        "guessed",
        "position",
        "recent",
        "revision",
        "snapshot_revision",
        "state",
        "stream",
        "touched",
    )

    def __init__(self, aggregate: AggregateType, stream: str, *, guessed: bool = False) -> None:
        self.aggregate = aggregate
        self.stream = stream
        self.state: Any = aggregate.initial
        self.revision = -1
        self.position = 0
        self.recent = RecentCommands()
        self.guessed = guessed
        self.snapshot_revision = -1
        self.touched = 0.0

    @property
    def expected(self) -> int | None:
        """What an append must find: the last revision, None for no stream."""
        return None if self.revision < 0 else self.revision

    def fold(self, registry: Registry, raw: RawRecord) -> None:
        """Takes in the stream's next event, as read from the log.

        Raises:
            UnknownEventType, UnreadableEvent: see `Registry.decode`.
        """
        event, _, revision, position, metadata = recorded(registry, raw)
        self.state = self.aggregate.evolve(self.state, event)
        self.revision = revision
        self.position = position
        command_id = metadata.get("commandId")
        if command_id:
            at = raw.created / TICKS if raw.created else now()
            fingerprint = metadata.get("fingerprint", "")
            self.recent.add(command_id, Seen(fingerprint, revision, position, False, at))
