"""Events as they are written to the log and read from it, as bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from rayfold import RecordedEvent, Registry
from rayfold.foreign_json import UNREADABLE

TICKS = 10_000_000
"""Ticks per second: the log's unit of time is 100 ns."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class NewRecord(NamedTuple):
    """An event to append. `data` is JSON; `id` is a UUID, as text."""

    event_type: str
    data: bytes
    metadata: Mapping[str, str]
    id: str


class RawRecord(NamedTuple):
    """An event as the log holds it. `revision` is its place in `stream`, `position` in `$all`.

    `created` is in ticks of 100 ns since the Unix epoch, by the server's clock; 0: unknown.
    """

    event_type: str
    data: bytes
    metadata: bytes
    stream: str
    revision: int
    position: int
    created: int

    @property
    def recorded_at(self) -> datetime | None:
        """Return when the record was written; None: unknown."""
        return _EPOCH + timedelta(microseconds=self.created // 10) if self.created else None


class Decrypted(bytes):
    """A record's data, partly encrypted on the log; `as_written` is what is stored there."""

    as_written: bytes


def as_written(raw: RawRecord) -> bytes:
    """Return a record's data as it is stored on the log: the same, whoever is forgotten."""
    return raw.data.as_written if isinstance(raw.data, Decrypted) else raw.data


def ticks_of(moment: datetime) -> int:
    """Return a datetime in the unit of `RawRecord.created`."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 10


class Batch(NamedTuple):
    """Records that a subscription delivers together.

    Everything up to `position` has now been delivered; the server's checkpoints move it too,
    without records. `caught_up`: the server said that the subscription is live, and no more
    records are waiting.
    """

    records: list[RawRecord]
    position: int
    caught_up: bool


class _Versioned(msgspec.Struct):
    schemaVersion: str | int = "1"


_version = msgspec.json.Decoder(_Versioned).decode
_metadata = msgspec.json.Decoder(dict[str, str | int | float | bool | list | dict | None])  # type: ignore[type-arg]


class Metadata(Mapping[str, str]):
    """An event's metadata, every value as text; empty if it is no JSON object.

    Decoded on first use: most folds never need it.
    """

    __slots__ = ("_found", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._found: dict[str, str] | None = None

    def __getitem__(self, key: str) -> str:
        return self._decoded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def _decoded(self) -> dict[str, str]:
        if self._found is None:
            try:
                found = _metadata.decode(self._raw)
                self._found = {
                    key: value if isinstance(value, str) else str(value)
                    for key, value in found.items()
                }
            except UNREADABLE:
                self._found = {}
        return self._found


ADDED_BY_SERVERS = ("$schema.name", "$schema.format")
"""Names that servers with `append_records` add to metadata."""


def metadata_of(raw: RawRecord) -> dict[str, str]:
    """Return the metadata as a plain dict, for JSON."""
    return dict(Metadata(raw.metadata))


def recorded(registry: Registry, raw: RawRecord) -> list[RecordedEvent]:
    """Decode a record into the current event; upcasters may turn it into several, or none.

    Records that the server itself has written are no events of the domain.

    Raises:
        UnknownEventType: the domain has no such type.
        UnreadableEvent: the record's data does not fit.
    """
    if raw.event_type.startswith("$"):
        return []
    try:
        version = int(_version(raw.metadata).schemaVersion)
    except UNREADABLE:  # metadata of another system
        version = 1
    event_type, data, metadata, stream, revision, position, *_ = raw
    events = registry.decode(event_type, data, version, stream, revision)
    about = Metadata(metadata)
    return [RecordedEvent(event, stream, revision, position, about) for event in events]
