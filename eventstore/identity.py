"""Which log it is: a name that the log itself has, whatever its address."""

from __future__ import annotations

from uuid import uuid4

import msgspec

from eventstore.one_record import first_record
from eventstore.port import Appended, Log, StreamAppend
from eventstore.records import NewRecord

STREAM = "rayfold-store"
"""Beside the domain's streams: none of its categories may be `rayfold`."""

_TYPE = "StoreNamed"
_decode = msgspec.json.Decoder(dict[str, str]).decode


async def store_id(log: Log) -> str:
    """Return the log's id; give it one if it has none yet.

    Raises:
        StoreUnavailable: no answer; it may have got one.
    """
    while True:
        if (named := await first_record(log, STREAM)) is not None:
            return _decode(named.data)["id"]
        new = uuid4()
        record = NewRecord(_TYPE, msgspec.json.encode({"id": new.hex}), {}, str(new))
        # Of several that name it at once, the first one's name counts.
        [result] = await log.append([StreamAppend(STREAM, None, [record])])
        if isinstance(result, Appended):
            return new.hex
