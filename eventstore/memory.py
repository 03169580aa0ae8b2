"""A log in this process, for a user's fast tests: the same promises, none of the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime

from msgspec.json import encode

from eventstore.errors import StoreUnavailable
from eventstore.port import ANY, Appended, Conflict, StreamAppend
from eventstore.records import Batch, RawRecord, ticks_of


class MemoryLog:
    """See `eventstore.port.Log` for what each method promises.

    `down = True` makes it answer like a store that is not there.
    """

    def __init__(self) -> None:
        self._all: list[RawRecord] = []
        self._streams: dict[str, list[RawRecord]] = {}
        self._grown = asyncio.Event()
        self.down = False

    async def append(self, appends: Sequence[StreamAppend]) -> list[Appended | Conflict]:
        """See `Log.append`."""
        self._check()
        await asyncio.sleep(0)  # as a real one, it lets others in between
        self._check()
        passed = [append for append in appends if self._fits(append)]
        for append in passed:
            self._write(append)
        last = len(self._all)
        if passed:
            self._grown.set()
            self._grown = asyncio.Event()
        return [
            Appended(last) if append in passed else Conflict("the stream has moved on")
            for append in appends
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
        records = list(self._streams.get(stream, ()))
        if backwards:
            records = records[::-1] if after is None else records[:after][::-1]
        elif after is not None:
            records = records[after + 1 :]
        for record in records[:limit]:
            yield record

    async def read_all(
        self, prefixes: Sequence[str], *, after: int | None = None, limit: int | None = None
    ) -> AsyncIterator[RawRecord]:
        """See `Log.read_all`."""
        self._check()
        for record in self._matching(prefixes, after or 0)[:limit]:
            yield record

    async def subscribe(
        self, prefixes: Sequence[str], after: int | None
    ) -> AsyncGenerator[Batch, None]:
        """See `Log.subscribe`."""
        position = after or 0
        while True:
            self._check()
            grown, end = self._grown, len(self._all)
            yield Batch(self._matching(prefixes, position), max(end, position), True)
            position = max(end, position)
            if len(self._all) <= position:
                await grown.wait()

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

    def _fits(self, append: StreamAppend) -> bool:
        length = len(self._streams.get(append.stream, ()))
        expected = -1 if append.expected is None else append.expected
        return append.expected == ANY or expected == length - 1

    def _write(self, append: StreamAppend) -> None:
        stream = self._streams.setdefault(append.stream, [])
        for record in append.records:
            raw = RawRecord(
                record.event_type,
                record.data,
                encode(record.metadata),
                append.stream,
                len(stream),
                len(self._all) + 1,
                ticks_of(datetime.now(UTC)),
            )
            stream.append(raw)
            self._all.append(raw)

    def _matching(self, prefixes: Sequence[str], after: int) -> list[RawRecord]:
        names = tuple(prefixes)
        return [record for record in self._all[after:] if record.stream.startswith(names)]
