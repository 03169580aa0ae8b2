"""How far each partition of a process manager has followed the log: a stream of its own."""

from __future__ import annotations

import time
from uuid import uuid4

import msgspec

from eventstore.port import ANY, Log, StreamAppend
from eventstore.records import NewRecord

_TYPE = "ProcessCheckpoint"

_LOOK_BACK = 1000


class _Checkpoint(msgspec.Struct):
    partition: int
    partitions: int
    position: int


_decode = msgspec.json.Decoder(_Checkpoint).decode
_encode = msgspec.json.Encoder().encode


class Checkpoints:
    """Of one partition; the stream is that of all partitions.

    One that is older than need be costs time alone: a process knows what it was told.
    """

    def __init__(self, store: Log, name: str, partition: int, partitions: int) -> None:
        self._store = store
        self._stream = f"rayfold-process-{name}"
        self._partition, self._partitions = partition, partitions
        self._saved = -1
        self._at = 0.0

    async def load(self, prefixes: list[str]) -> int:
        """Return the position to go on after: where there is none, the log's end, as of now.

        Another number of partitions goes on from the one that was furthest behind.

        Raises:
            StoreUnavailable: no answer.
        """
        last: dict[tuple[int, int], int] = {}
        layout = None
        async for raw in self._store.read_stream(self._stream, backwards=True, limit=_LOOK_BACK):
            found = _decode(raw.data)
            layout = layout or found.partitions
            last.setdefault((found.partition, found.partitions), found.position)
        if layout is None:
            position = await self._store.end_position(prefixes)
            await self.save(position)
            return position
        mine = last.get((self._partition, self._partitions))
        if layout == self._partitions and mine is not None:
            return mine
        return min(last.values())

    def saved(self, position: int) -> None:
        """Note that this is what the stream has."""
        self._saved, self._at = position, time.monotonic()

    async def save_after(self, position: int, interval: float) -> None:
        """Save it if the last was saved that many seconds ago.

        Raises:
            StoreUnavailable: no answer.
        """
        if time.monotonic() - self._at >= interval:
            await self.save(position)

    async def save(self, position: int) -> None:
        """Write it, unless it is what was written last.

        Raises:
            StoreUnavailable: it may not have been written.
        """
        if position == self._saved:
            return
        data = _encode(_Checkpoint(self._partition, self._partitions, position))
        record = NewRecord(_TYPE, data, {}, str(uuid4()))
        await self._store.append([StreamAppend(self._stream, ANY, [record])])
        self.saved(position)
