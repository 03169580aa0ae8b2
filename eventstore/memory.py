"""A log in this process, for a user's fast tests: the same promises, none of the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

from msgspec.json import encode

from eventstore.errors import StoreUnavailable, StreamTombstoned
from eventstore.port import ANY, Appended, AppendResult, Conflict, StreamAppend
from eventstore.records import Batch, RawRecord, ticks_of

_DELETED = 2**63 - 1
"""As a stream's `$tb`: deleted. As a revision: the tombstone's."""


class MemoryLog:
    """See `eventstore.port.Log` for what each method promises.

    `down = True` makes it answer like a store that is not there.
    """

    def __init__(self) -> None:
        self._all: list[RawRecord] = []
        self._streams: dict[str, list[RawRecord]] = {}
        self._first: dict[str, int] = {}
        self._tombstoned: set[str] = set()
        self._grown = asyncio.Event()
        self.down = False

    async def append(self, appends: Sequence[StreamAppend]) -> list[AppendResult]:
        """See `Log.append`."""
        self._check()
        await asyncio.sleep(0)  # as a real one, it lets others in between
        self._check()
        last_revisions = [self._write(append) if self._fits(append) else None for append in appends]
        last = len(self._all)
        self._announce()
        return [
            Conflict("the stream has moved on") if revision is None else Appended(last, revision)
            for revision in last_revisions
        ]

    async def read_stream(
        self,
        stream: str,
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[RawRecord]:
        """See `Log.read_stream`."""
        self._check()
        if stream in self._tombstoned:
            raise StreamTombstoned(stream)
        first = self._first.get(stream, 0)
        records = [raw for raw in self._streams.get(stream, ()) if raw.revision >= first]
        if after is not None:
            records = [raw for raw in records if (raw.revision < after) is backwards]
            records = [raw for raw in records if raw.revision != after]
        for record in (records[::-1] if backwards else records)[:limit]:
            yield record

    async def read_all(
        self, prefixes: Sequence[str], *, after: int | None = None, limit: int | None = None
    ) -> AsyncIterator[RawRecord]:
        """See `Log.read_all`."""
        self._check()
        for record in self._matching(prefixes, after or 0)[:limit]:
            yield record

    async def subscribe(
        self,
        prefixes: Sequence[str],
        after: int | None,
        *,
        gather: float = 0.0,
        event_types: Sequence[str] = (),
    ) -> AsyncGenerator[Batch, None]:
        """See `Log.subscribe`."""
        position = after or 0
        while True:
            self._check()
            grown, end = self._grown, len(self._all)
            records = self._matching(prefixes, position)
            if event_types:
                records = [each for each in records if each.event_type in event_types]
            yield Batch(records, max(end, position), True)
            position = max(end, position)
            if len(self._all) <= position:
                await grown.wait()

    async def delete_stream(self, stream: str, *, tombstone: bool = False) -> None:
        """See `Log.delete_stream`."""
        self._check()
        await asyncio.sleep(0)
        self._check()
        if stream in self._tombstoned:
            return
        if tombstone:
            self._tombstoned.add(stream)
            self._add("$streamDeleted", b"", {}, stream, _DELETED)
        elif self._exists(stream):
            self._truncate(stream, _DELETED)
        self._announce()

    async def keep_latest(self, stream: str, count: int) -> None:
        """See `Log.keep_latest`."""
        self._check()

    async def end_position(self, prefixes: Sequence[str]) -> int:
        """See `Log.end_position`."""
        self._check()
        matching = self._matching(prefixes, 0)
        return matching[-1].position if matching else 0

    @property
    def receipts_share_position(self) -> bool:
        """See `Log.receipts_share_position`."""
        return True

    async def close(self) -> None:
        """See `Log.close`."""

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("the log is down")

    def _exists(self, stream: str) -> bool:
        return len(self._streams.get(stream, ())) > self._first.get(stream, 0)

    def _fits(self, append: StreamAppend) -> bool:
        if append.stream in self._tombstoned:
            return False
        if append.expected is None:
            return not self._exists(append.stream)
        last = len(self._streams.get(append.stream, ())) - 1
        return append.expected == ANY or append.expected == last

    def _write(self, append: StreamAppend) -> int:
        records = self._streams.setdefault(append.stream, [])
        begins_again = len(records) if self._first.get(append.stream) == _DELETED else None
        for each in append.records:
            raw = self._add(*each[:3], append.stream, len(records))
            records.append(raw)
        if begins_again is not None:
            self._truncate(append.stream, begins_again)
        return len(records) - 1

    def _truncate(self, stream: str, first: int) -> None:
        self._first[stream] = first
        records = self._streams.setdefault(f"$${stream}", [])
        data = encode({"$tb": first})
        records.append(self._add("$metadata", data, {}, f"$${stream}", len(records)))

    def _add(
        self, event_type: str, data: bytes, metadata: Mapping[str, str], stream: str, revision: int
    ) -> RawRecord:
        now = ticks_of(datetime.now(UTC))
        position = len(self._all) + 1
        raw = RawRecord(event_type, data, encode(metadata), stream, revision, position, now)
        self._all.append(raw)
        return raw

    def _announce(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _matching(self, prefixes: Sequence[str], after: int) -> list[RawRecord]:
        names = tuple(prefixes)
        return [record for record in self._all[after:] if record.stream.startswith(names)]
