"""Events on their way to the log and from it, still as bytes."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from rayfold import Recorded, Registry


class NewRecord(NamedTuple):
    """An event to append. `data` and `metadata` are JSON."""

    event_type: str
    data: bytes
    metadata: bytes
    id: UUID


class RawRecord(NamedTuple):
    """An event as the log holds it. `revision` is its place in `stream`, `position` in `$all`."""

    event_type: str
    data: bytes
    metadata: bytes
    stream: str
    revision: int
    position: int
    id: UUID
    recorded_at: datetime | None


class Batch(NamedTuple):
    """What a subscription delivers together.

    Everything up to `position` has now been delivered; it moves by the server's
    checkpoints too, then without records. `caught_up`: the server said that the
    subscription is live, and nothing more waits.
    """

    records: list[RawRecord]
    position: int
    caught_up: bool


_metadata = msgspec.json.Decoder(dict[str, str | int | float | bool | list | dict | None])  # type: ignore[type-arg]


def metadata_of(raw: RawRecord) -> dict[str, str]:
    """The metadata, every value as text; nothing where it is no JSON object."""
    try:
        found = _metadata.decode(raw.metadata)
    except msgspec.DecodeError:
        return {}
    return {key: value if isinstance(value, str) else str(value) for key, value in found.items()}


def recorded(registry: Registry, raw: RawRecord) -> Recorded:
    """The event, decoded and in today's shape.

    Raises:
        UnknownEventType: the domain has no such type.
        UnreadableEvent: its data does not fit.
    """
    metadata = metadata_of(raw)
    try:
        version = int(metadata.get("schemaVersion", 1))
    except ValueError:
        version = 1
    event = registry.decode(raw.event_type, raw.data, version, raw.stream, raw.revision)
    return Recorded(event, raw.stream, raw.revision, raw.position, metadata)
