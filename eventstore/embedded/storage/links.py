"""Links: events whose data is ``revision@stream``, the place of another event."""

from eventstore.embedded.protocol.constants import LINK_TYPE
from eventstore.embedded.storage.event import Event, Record
from eventstore.embedded.storage.log_reader import LogReader

_LINK_MARK = b"\x0a\x04type\x12\x02$>"


def link_target(record: Record) -> tuple[int, str] | None:
    """Return revision and stream that a link names; None if the record is no well-formed link."""
    if record.metadata["type"] != LINK_TYPE:
        return None
    revision, at, stream = record.data.partition(b"@")
    if not at or not revision.isdigit() or len(revision) > 19:
        return None
    try:
        return int(revision), stream.decode()
    except UnicodeDecodeError:
        return None


def is_link(resp: bytes) -> bool:
    """Return quickly False for events that are certainly not links."""
    return _LINK_MARK in resp


def target_of(log: LogReader, record: Record) -> tuple[bool, Event | None]:
    """Return whether a record is a link, and its target if that can still be read."""
    target = link_target(record)
    if target is None:
        return False, None
    return True, log.event_at(target[1], target[0])
