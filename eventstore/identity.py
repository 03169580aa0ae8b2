"""The identity of a log: a name on the log itself, independent of its address."""

from __future__ import annotations

from uuid import uuid4

import msgspec

from eventstore.errors import StoreError, StoreUnavailable
from eventstore.one_record import first_record, last_record
from eventstore.port import ANY, Appended, Log, StreamAppend
from eventstore.records import NewRecord

STREAM = "rayfold-store"
"""The stream with the log's id; no domain may use the category `rayfold`."""

COPY = "rayfold-copy"
"""The stream in a log that is a copy; it says whether the copy is complete."""

_TYPE = "StoreNamed"
_BEGUN = "CopyBegun"
_ENDED = "CopyEnded"
_decode = msgspec.json.Decoder(dict[str, str]).decode


class UnfinishedCopy(StoreError):
    """The log is an unfinished copy: appending to it now could not be undone."""

    def __init__(self) -> None:
        super().__init__("it is an unfinished copy: finish it with `rayfold copy`")


async def begin_copy(log: Log) -> None:
    """Note in the log that a copy into it has begun: until it ends, no stack runs on the log.

    Raises:
        StoreUnavailable: the note may be missing.
    """
    if not await is_unfinished_copy(log):
        await _note(log, _BEGUN)


async def end_copy(log: Log) -> None:
    """Note in the log that the copy is complete.

    Raises:
        StoreUnavailable: the note may be missing.
    """
    await _note(log, _ENDED)


async def is_unfinished_copy(log: Log) -> bool:
    """Return whether the log is a copy that may be incomplete.

    Raises:
        StoreUnavailable: no answer.
    """
    last = await last_record(log, COPY)
    return last is not None and last.event_type == _BEGUN


async def _note(log: Log, event_type: str) -> None:
    record = NewRecord(event_type, b"{}", {}, str(uuid4()))
    [result] = await log.append([StreamAppend(COPY, ANY, [record])])
    if not isinstance(result, Appended):
        raise StoreUnavailable(f"the stream {COPY} refuses its record: {result}")


async def store_id(log: Log) -> str:
    """Return the log's id; write a new one if it has none yet.

    Raises:
        StoreUnavailable: no answer; an id may have been written.
        UnfinishedCopy: the log is an unfinished copy, and has no id yet.
    """
    while True:
        if (named := await first_record(log, STREAM)) is not None:
            return _decode(named.data)["id"]
        if await is_unfinished_copy(log):
            raise UnfinishedCopy
        new = uuid4()
        record = NewRecord(_TYPE, msgspec.json.encode({"id": new.hex}), {}, str(new))
        # If several processes write an id at once, the first one counts.
        [result] = await log.append([StreamAppend(STREAM, None, [record])])
        if isinstance(result, Appended):
            return new.hex
