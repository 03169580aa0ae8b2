"""Relaying events from the outbox to the log: each event exactly once, at its revision, even if
another writer has begun to relay it.
"""

from __future__ import annotations

from msgspec.json import decode, encode

from eventstore.errors import StreamTombstoned
from eventstore.one_record import first_record, last_record
from eventstore.port import Appended, Log, StreamAppend
from eventstore.records import ADDED_BY_SERVERS, NewRecord, RawRecord, metadata_of
from rayfold.foreign_json import UNREADABLE

Outbox = list[tuple[int, NewRecord]]
"""The records of one stream with their revisions, in order."""

_DELETED = 2**63 - 1


class Relay:
    """Appends the events of outboxes, and reads what the log has of a stream."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def append(self, stream: str, outbox: Outbox, began: int) -> bool:
        """Append an outbox; return whether all of it is now on the log once, at its revisions."""
        first, last = outbox[0][0], outbox[-1][0]
        records = [record for _, record in outbox]
        expected = first - 1 if first > began else None
        if expected is None and await self.was_deleted(stream, last):
            return False  # it may have been on the log before the deletion, and must not return
        [answer] = await self._log.append([StreamAppend(stream, expected, records)])
        if isinstance(answer, Appended):
            return answer.last_revision in (None, last)
        # Part of it may be on the log: another writer may have relayed it before it died.
        return await self._append_rest(stream, outbox)

    async def _append_rest(self, stream: str, outbox: Outbox) -> bool:
        found = await self._found(stream, outbox)
        ours = all(_is(raw, record) for raw, (_, record) in zip(found, outbox, strict=False))
        if not ours or not found or found[0].revision != outbox[0][0]:
            return False
        rest = outbox[len(found) :]
        if not rest:
            return True
        records = [record for _, record in rest]
        [answer] = await self._log.append([StreamAppend(stream, rest[0][0] - 1, records)])
        return isinstance(answer, Appended)

    async def position_of(self, stream: str, outbox: Outbox) -> int | None:
        """Return the position of the last of these records if all of them are on the log."""
        found = await self._found(stream, outbox)
        if len(found) != len(outbox) or found[0].revision != outbox[0][0]:
            return None
        if not all(_is(raw, record) for raw, (_, record) in zip(found, outbox, strict=True)):
            return None
        return found[-1].position

    async def _found(self, stream: str, outbox: Outbox) -> list[RawRecord]:
        first = outbox[0][0]
        after = first - 1 if first > 0 else None
        try:
            records = self._log.read_stream(stream, after=after, limit=len(outbox))
            return [raw async for raw in records]
        except StreamTombstoned:
            return []

    async def first_of(self, stream: str) -> int:
        """Return the first revision that the log has of a stream; 0 if it has none."""
        first = await first_record(self._log, stream)
        return first.revision if first is not None else 0

    async def was_deleted(self, stream: str, version: int) -> bool:
        """Return whether the stream was deleted at or after that revision, not just truncated."""
        try:
            metadata = await last_record(self._log, f"$${stream}")
        except StreamTombstoned:
            return True
        if metadata is None:
            return False
        try:
            before = decode(metadata.data).get("$tb", 0)
        except (*UNREADABLE, AttributeError):
            return False
        return isinstance(before, int) and (before == _DELETED or before > version)


def _is(raw: RawRecord, record: NewRecord) -> bool:
    """Return whether this event on the log is that record: same command, same writer."""
    if raw.event_type != record.event_type:
        return False
    if raw.metadata == encode(record.metadata) and raw.data == record.data:
        return True
    try:
        return bool(_told(raw) == dict(record.metadata) and decode(raw.data) == decode(record.data))
    except UNREADABLE:
        return False


def _told(raw: RawRecord) -> dict[str, str]:
    """Return the metadata that was appended, without what the server has added."""
    return {name: value for name, value in metadata_of(raw).items() if name not in ADDED_BY_SERVERS}
