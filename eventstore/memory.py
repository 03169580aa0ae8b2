"""A log in this process, for a user's fast tests: the same promises, but no durability."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from msgspec.json import encode

from eventstore.errors import NoSuchPosition, StoreUnavailable, StreamTombstoned
from eventstore.port import (
    ANY,
    Appended,
    AppendResult,
    Conflict,
    JointAppend,
    JointlyAppended,
    StreamAppend,
)
from eventstore.records import Batch, NewRecord, RawRecord, ticks_of

_DELETED = 2**63 - 1
"""As a stream's `$tb`, it means deleted; as a revision, it is the tombstone's."""


class MemoryLog:
    """See `eventstore.port.Log` for what each method promises.

    `down = True` makes it behave like a store that cannot be reached.
    """

    def __init__(self) -> None:
        self._all: list[RawRecord] = []
        self._streams: dict[str, list[RawRecord]] = {}
        self._first: dict[str, int] = {}
        self._tombstoned: set[str] = set()
        self._grown = asyncio.Event()
        self.down = False

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        """See `Log.append`."""
        self._check()
        await asyncio.sleep(0)  # like a real store, it lets other tasks run
        self._check()
        answers = [self._take(append) for append in appends]
        self._announce()
        taken = [each for each in answers if isinstance(each, Appended | JointlyAppended)]
        last = max((each.position for each in taken), default=0)
        return [
            each._replace(position=last) if isinstance(each, Appended | JointlyAppended) else each
            for each in answers
        ]

    async def read_stream(
        self,
        stream: str,
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[RawRecord, None]:
        """See `Log.read_stream`."""
        self._check()
        if stream.removeprefix("$$") in self._tombstoned:
            raise StreamTombstoned(stream)
        first = self._first.get(stream, 0)
        records = [raw for raw in self._streams.get(stream, ()) if raw.revision >= first]
        if after is not None:
            records = [raw for raw in records if (raw.revision < after) is backwards]
            records = [raw for raw in records if raw.revision != after]
        for record in (records[::-1] if backwards else records)[:limit]:
            yield record

    async def read_all(
        self,
        prefixes: Sequence[str],
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[RawRecord, None]:
        """See `Log.read_all`."""
        self._check()
        if backwards:
            found = self._matching(prefixes, 0)[::-1]
            records = [each for each in found if after is None or each.position < after]
        else:
            records = self._matching(prefixes, after or 0)
        for record in records[:limit]:
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
        self._check()
        if position > len(self._all):
            raise NoSuchPosition
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

    async def delete_stream(self, stream: str, *, tombstone: bool = False) -> bool:
        """See `Log.delete_stream`."""
        self._check()
        await asyncio.sleep(0)
        self._check()
        there = stream not in self._tombstoned and (tombstone or self._exists(stream))
        if not there:
            return False
        if tombstone:
            self._tombstoned.add(stream)
            self._add("$streamDeleted", b"", {}, stream, _DELETED)
        else:
            self._truncate(stream, _DELETED)
        self._announce()
        return True

    async def keep_latest(self, stream: str, count: int) -> None:
        """See `Log.keep_latest`."""
        self._check()

    async def end_position(self, prefixes: Sequence[str] | None) -> int:
        """See `Log.end_position`."""
        self._check()
        matching = self._all if prefixes is None else self._matching(prefixes, 0)
        return matching[-1].position if matching else 0

    async def is_atomic(self) -> bool:
        """See `Log.is_atomic`."""
        self._check()
        return True

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

    def _take(self, append: StreamAppend | JointAppend) -> AppendResult:
        if isinstance(append, StreamAppend):
            if not self._fits(append.stream, append.expected):
                return Conflict("the stream has moved on")
            last, revisions = self._write((append.stream, each) for each in append.records)
            return Appended(last, revisions.get(append.stream))
        moved = [name for name, wanted in append.expected.items() if not self._fits(name, wanted)]
        if moved:
            return Conflict("streams have moved on", tuple(moved))
        return JointlyAppended(*self._write(append.records))

    def _fits(self, stream: str, expected: int | None) -> bool:
        if stream in self._tombstoned:
            return False
        if expected is None:
            return not self._exists(stream)
        last = len(self._streams.get(stream, ())) - 1
        return expected in (ANY, last)

    def _write(self, records: Iterable[tuple[str, NewRecord]]) -> tuple[int, dict[str, int]]:
        """Write the records; return the last one's position, and each stream's last revision."""
        revisions: dict[str, int] = {}
        begin_again: dict[str, int] = {}
        for stream, each in records:
            written = self._streams.setdefault(stream, [])
            if stream not in revisions and self._first.get(stream) == _DELETED:
                begin_again[stream] = len(written)
            revisions[stream] = len(written)
            written.append(self._add(*each[:3], stream, len(written)))
        last = len(self._all)
        for stream, first in begin_again.items():
            self._truncate(stream, first)
        return last, revisions

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
