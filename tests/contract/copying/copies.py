"""How the tests copy a log, and examine the copy."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from deploy.copying.copy import Copied, Copy
from eventstore.kurrentdb.whole_log import WholeLog, WholeRecord
from eventstore.port import ANY, Appended, StreamAppend
from eventstore.records import NewRecord, RawRecord

also_older = pytest.mark.parametrize(
    "target", ["server", "server without append_records"], indirect=True
)


async def copied(source: WholeLog, target: WholeLog, *, up_to_now: bool = False) -> Copied:
    """Copy it."""
    return await Copy(source, target, lambda _: None, up_to_now=up_to_now).run()


async def written(log: WholeLog, stream: str, *records: NewRecord, expected: int = ANY) -> Appended:
    """Append to a stream, as whoever does not ask where it is."""
    [answer] = await log.append([StreamAppend(stream, expected, [*records])])
    assert isinstance(answer, Appended)
    return answer


def new(event_type: str = "Noted", **fields: Any) -> NewRecord:
    """Return a record of somebody's."""
    return NewRecord(event_type, msgspec.json.encode(fields), {"by": "me"}, str(uuid4()))


async def stream_of(log: WholeLog, stream: str) -> list[RawRecord]:
    """Read all of a stream."""
    return [raw async for raw in log.read_stream(stream)]


async def everything(log: WholeLog) -> list[WholeRecord]:
    """Read all that is not the server's."""
    return [record async for record in log.read_whole()]


async def names_the_same_events(source: WholeLog, target: WholeLog) -> None:
    """Check that what processes were told of stands in either log where they say that it does."""
    for log in (source, target):
        records = await everything(log)
        at = {each.position: each for each in records}
        steps = [each for each in records if each.event_type == "ProcessSawEvent"]
        assert steps
        for step in steps:
            told = json.loads(step.data)["told"]
            event = at[told["position"]]
            assert (event.stream, event.revision) == (told["stream"], told["revision"])
            assert event.position < step.position
