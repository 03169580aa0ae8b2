"""How a stored response is turned into what one reader asked for: links resolved, ids structured.

Most readers ask for neither, and get the stored bytes themselves.
"""

from collections.abc import Callable

from eventstore.embedded.protocol import event_encoding
from eventstore.embedded.storage.event import Record
from eventstore.embedded.storage.links import is_link, target_of
from eventstore.embedded.storage.log_reader import LogReader

Shape = Callable[[bytes], bytes]


def shape(log: LogReader, *, resolve_links: bool, structured: bool) -> Shape | None:
    """Return the transformation a reader needs; None if it takes stored responses as they are."""
    if not resolve_links:
        return event_encoding.structured_resp if structured else None

    def form(record: bytes) -> bytes:
        return event_encoding.structured_record(record) if structured else record

    def resolved(resp: bytes) -> bytes:
        if is_link(resp):
            raw = event_encoding.record_of(resp)
            record = Record.FromString(raw)
            linked, target = target_of(log, record)
            if linked:
                event = form(event_encoding.record_of(target.resp)) if target is not None else None
                return event_encoding.read_event(event, form(raw), record.commit_position)
        return event_encoding.structured_resp(resp) if structured else resp

    return resolved
