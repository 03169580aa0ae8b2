"""Events that an operator has discarded for a view: they are never folded.

Such a decision changes what views show, so it is on the log, in a stream beside the domain's: then
every store, every rebuild and every verification agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid5

import msgspec

from eventstore.port import ANY, Log, StreamAppend
from eventstore.records import NewRecord
from projections.poison import Discarded, Parked

PREFIX = "discarded-"

_TYPE = "EventDiscarded"
TYPES = (_TYPE,)
_NAMESPACE = UUID("5a0a7d0e-6d5c-4c0c-9f53-0f2a6f6a8a41")


class _Decision(NamedTuple):
    view: str
    key: str
    stream: str
    revision: int
    error: str
    at: str


_decode = msgspec.json.Decoder(dict[str, str | int]).decode


def stream_of(view: str) -> str:
    """Return the stream that records the decisions for a view."""
    return f"{PREFIX}{view}"


async def record(log: Log, parked: Parked) -> None:
    """Discard an event for a view; repeating it changes nothing.

    Raises:
        StoreUnavailable: the decision may not have been recorded.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    place = (parked.view, parked.key, parked.stream, parked.revision)
    decision = _Decision(*place, parked.error, at)
    new = NewRecord(
        _TYPE,
        msgspec.json.encode(decision._asdict()),
        {},
        str(uuid5(_NAMESPACE, "\n".join(map(str, place)))),
    )
    await log.append([StreamAppend(stream_of(parked.view), ANY, [new])])


async def load(log: Log, views: Iterable[str]) -> frozenset[Discarded]:
    """Return the events that were discarded for these views.

    Raises:
        StoreUnavailable: the log cannot be read.
    """
    found = set()
    for view in views:
        async for raw in log.read_stream(stream_of(view)):
            said = _decode(raw.data)
            place = str(said["key"]), str(said["stream"]), int(said["revision"])
            found.add(Discarded(view, *place))
    return frozenset(found)
