"""From v1 request messages to what the writer understands."""

from uuid import UUID

from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from eventstore.embedded.protocol.constants import (
    ANY,
    MAX,
    MAX_EVENT_SIZE,
    NO_STREAM,
    STREAM_EXISTS,
)
from eventstore.embedded.protocol.errors import event_too_large, invalid_argument, metadata_missing
from eventstore.embedded.storage.event import Proposed

ProposedMessage = streams_pb2.AppendReq.ProposedMessage | streams_pb2.BatchAppendReq.ProposedMessage


_EXPECTED = {"no_stream": NO_STREAM, "any": ANY, "stream_exists": STREAM_EXISTS}


def expected_revision(kind: str | None, revision: int) -> int:
    """Return the expected revision behind a oneof; unset is refused."""
    if kind in ("revision", "stream_position"):
        return min(revision, MAX)
    if kind is None:
        raise invalid_argument("'expected_stream_revision' is a required argument")
    return _EXPECTED[kind]


def uuid_bytes(value: shared_pb2.UUID) -> bytes:
    """Return 16 bytes of an id in either form."""
    if value.WhichOneof("value") == "structured":
        halves = value.structured
        most, least = halves.most_significant_bits, halves.least_significant_bits
        return (most & 2**64 - 1).to_bytes(8, "big") + (least & 2**64 - 1).to_bytes(8, "big")
    parsed = parse_uuid(value.string)
    if parsed is None:
        raise invalid_argument(f"'{value.string[:64]}' is not a valid UUID")
    return parsed


def parse_uuid(text: str) -> bytes | None:
    """Return 16 bytes of an id's text, in a fifth of the time of ``UUID`` for the usual form."""
    digits = text.replace("-", "")
    try:
        if len(text) == 36 and len(digits) == 32:
            value = bytes.fromhex(digits)
            return value if len(value) == 16 else None  # blanks between digits are skipped
        return UUID(text).bytes
    except ValueError:
        return None


def proposed_event(message: ProposedMessage) -> Proposed:
    """Return an event to append; refuse missing metadata and excessive size."""
    metadata = message.metadata
    event_type = metadata.get("type")
    if event_type is None:
        raise metadata_missing("type")
    content_type = metadata.get("content-type")
    if content_type is None:
        raise metadata_missing("content-type")
    event = Proposed(
        uuid_bytes(message.id),
        event_type,
        content_type == "application/json",
        message.data,
        message.custom_metadata,
    )
    if event.size > MAX_EVENT_SIZE:
        raise event_too_large(str(UUID(bytes=event.id)), event.size)
    return event
