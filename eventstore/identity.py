"""The identity of a log: a name on the log itself, independent of its address."""

from __future__ import annotations

from uuid import uuid4

import msgspec

from eventstore.errors import StoreError, StoreUnavailable
from eventstore.one_record import first_record, last_record
from eventstore.port import ANY, Appended, Log, StreamAppend
from eventstore.records import NewRecord

STREAM = "rayfold-store"
"""Beside the domain's streams: none of its categories may be `rayfold`."""

COPY = "rayfold-copy"
"""Of a log that is a copy of another: whether all is there that the other had."""

_TYPE = "StoreNamed"
_BEGUN = "CopyBegun"
_ENDED = "CopyEnded"
_decode = msgspec.json.Decoder(dict[str, str]).decode


class UnfinishedCopy(StoreError):
    """The log is a copy that is not finished: what is done on it now could not be undone."""

    def __init__(self) -> None:
        super().__init__("it is a copy that is not finished: go on with `rayfold copy`")


async def begin_copy(log: Log) -> None:
    """Note that the log is to be a copy: no stack is served from it before that is finished.

    Raises:
        StoreUnavailable: it may not be noted.
    """
    if not await is_unfinished_copy(log):
        await _note(log, _BEGUN)


async def end_copy(log: Log) -> None:
    """Note that it is finished.

    Raises:
        StoreUnavailable: it may not be noted.
    """
    await _note(log, _ENDED)


async def is_unfinished_copy(log: Log) -> bool:
    """Tell whether some of the other log may not be there yet.

    Raises:
        StoreUnavailable: no answer.
    """
    last = await last_record(log, COPY)
    return last is not None and last.event_type == _BEGUN


async def _note(log: Log, event_type: str) -> None:
    record = NewRecord(event_type, b"{}", {}, str(uuid4()))
    [result] = await log.append([StreamAppend(COPY, ANY, [record])])
    if not isinstance(result, Appended):
        raise StoreUnavailable(f"the stream {COPY} takes no record: {result}")


async def store_id(log: Log) -> str:
    """Return the log's id; give it one if it has none yet.

    Raises:
        StoreUnavailable: no answer; it may have got one.
        UnfinishedCopy: it is to be a copy of another log, and has none yet.
    """
    while True:
        if (named := await first_record(log, STREAM)) is not None:
            return _decode(named.data)["id"]
        if await is_unfinished_copy(log):
            raise UnfinishedCopy
        new = uuid4()
        record = NewRecord(_TYPE, msgspec.json.encode({"id": new.hex}), {}, str(new))
        # Of several that name it at once, the first one's name counts.
        [result] = await log.append([StreamAppend(STREAM, None, [record])])
        if isinstance(result, Appended):
            return new.hex
