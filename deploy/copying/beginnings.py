"""The first readable revision of each stream of a log: some were deleted or truncated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from deploy.copying.own_records import CHECKPOINTS, is_copied
from eventstore.deletions import deleted_stream
from eventstore.errors import StreamTombstoned
from eventstore.kurrentdb.whole_log import WholeLog, WholeRecord
from eventstore.one_record import first_record

REMOVED = "$removed"
"""The type of placeholders in a copy for records that can no longer be read, so that later records
keep the revisions that receipts, processes and views know. As a type of the server's own, it is no
event to any reader; and as the stream is truncated there, only readers of `$all` see it.
"""

_SETTINGS = "$metadata"
_TOMBSTONE = "$streamDeleted"
_OF = "$$"

_NAMESPACE = UUID("3f0c8a34-3c0f-4e2c-8f1a-6f6d1c1f0d57")
_AT_ONCE = 64


@dataclass
class Beginnings:
    """`first` has first revisions other than 0. Streams that are `gone` have no records, but
    continue their revisions; `tombstoned` ones never have records again; `deleted` ones were
    deleted at least once.
    """

    first: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    tombstoned: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    def has(self, record: WholeRecord) -> bool:
        """Return whether a record can still be read in its stream."""
        stream = record.stream
        if stream in self.gone or stream in self.tombstoned or record.event_type == REMOVED:
            return False
        return record.event_type != _TOMBSTONE and record.revision >= self.first.get(stream, 0)

    def is_cut(self, stream: str) -> bool:
        """Return whether the stream does not begin with revision 0, or has no records."""
        return stream in self.first or stream in self.gone


async def beginnings_of(log: WholeLog) -> Beginnings:
    """Read all streams with settings: streams that were deleted or truncated have them.

    Raises:
        StoreUnavailable: no answer.
    """
    found = Beginnings()
    with_settings: set[str] = set()
    async for record in log.read_whole(event_types=(_SETTINGS, _TOMBSTONE)):
        if record.event_type == _TOMBSTONE and is_copied(record.stream):
            found.tombstoned.add(record.stream)
        elif record.event_type == _SETTINGS and record.stream.startswith(_OF):
            stream = record.stream.removeprefix(_OF)
            if is_copied(stream):
                with_settings.add(stream)
            if deleted_stream(record) is not None:
                found.deleted.add(stream)
    streams = sorted(with_settings)
    for start in range(0, len(streams), _AT_ONCE):
        some = streams[start : start + _AT_ONCE]
        await asyncio.gather(*(_look(log, stream, found) for stream in some))
    return found


async def _look(log: WholeLog, stream: str, found: Beginnings) -> None:
    try:
        first = await first_record(log, stream)
    except StreamTombstoned:
        found.tombstoned.add(stream)
        return
    if first is None:
        found.gone.add(stream)
    elif first.revision > 0 and first.event_type not in CHECKPOINTS:
        found.first[stream] = first.revision


def removed(stream: str, revisions: Iterable[int]) -> list[WholeRecord]:
    """Return placeholders for missing records; always the same ones."""
    return [
        WholeRecord(
            stream, each, REMOVED, b"{}", b"", str(uuid5(_NAMESPACE, f"{each}@{stream}")), True, 0
        )
        for each in revisions
    ]
