"""How a stored response is turned into what one reader asked for: links resolved, ids structured.

Most readers ask for neither, and get the stored bytes themselves.
"""

from collections.abc import Callable

from eventstore.embedded.constants import LINK_TYPE
from eventstore.embedded.rpc import wire
from eventstore.embedded.storage.event import Event, Record
from eventstore.embedded.storage.log import Log

_LINK_MARK = b"\x0a\x04type\x12\x02$>"

Shape = Callable[[bytes], bytes]


def link_target(record: Record) -> tuple[int, str] | None:
    """Revision and stream that a link names; None if the record is no well-formed link."""
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
    """A quick no for all that surely isn't one."""
    return _LINK_MARK in resp


def target_of(log: Log, record: Record) -> tuple[bool, Event | None]:
    """Whether a record is a link, and its target if that can still be read."""
    target = link_target(record)
    if target is None:
        return False, None
    return True, log.event_at(target[1], target[0])


def shape(log: Log, *, resolve_links: bool, structured: bool) -> Shape | None:
    """The transformation a reader needs; None if it takes stored responses as they are."""
    if not resolve_links:
        return wire.structured_resp if structured else None

    def form(record: bytes) -> bytes:
        return wire.structured_record(record) if structured else record

    def resolved(resp: bytes) -> bytes:
        if is_link(resp):
            raw = wire.record_of(resp)
            record = Record.FromString(raw)
            linked, target = target_of(log, record)
            if linked:
                event = form(wire.record_of(target.resp)) if target is not None else None
                return wire.read_event(event, form(raw), record.commit_position)
        return wire.structured_resp(resp) if structured else resp

    return resolved
