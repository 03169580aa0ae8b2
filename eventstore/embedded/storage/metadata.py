"""Stream metadata: the keys a server interprets.

Rules: EventStoreDB docs, "Stream metadata". Unknown keys and malformed values are stored and
ignored.
"""

import json
from dataclasses import dataclass
from typing import Any

from eventstore.embedded.protocol.constants import MAX, METADATA_TYPE


@dataclass(frozen=True, slots=True)
class StreamMetadata:
    """The part of a stream's metadata that decides which of its events are readable."""

    truncate_before: int = 0
    max_count: int | None = None
    max_age: int | None = None

    @property
    def soft_deleted(self) -> bool:
        """A soft delete is a ``$tb`` beyond every possible revision."""
        return self.truncate_before == MAX


NO_METADATA = StreamMetadata()
METASTREAM = StreamMetadata(max_count=1)
"""A metastream has no metadata of its own; only its newest event is readable."""


def parse_json_object(data: bytes) -> dict[str, Any]:
    """Return the object in ``data``, or an empty one: other data is stored but has no meaning."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def interpret(event_type: str, data: bytes) -> StreamMetadata:
    """Return metadata in force after an event of a metastream."""
    if event_type != METADATA_TYPE:
        return NO_METADATA
    values = parse_json_object(data)
    if not values:
        return NO_METADATA
    return StreamMetadata(
        truncate_before=min(_positive(values.get("$tb")) or 0, MAX),
        max_count=_positive(values.get("$maxCount")),
        max_age=_positive(values.get("$maxAge")),
    )


def with_truncate_before(data: bytes, revision: int) -> bytes:
    """Return the same JSON object with another ``$tb``; other keys stay."""
    return json.dumps(parse_json_object(data) | {"$tb": revision}).encode()
