"""The partitions of a process manager, and how far each has followed the log.

A *layout* is a number of partitions and the position where they begin. It is a record of the stream
`rayfold-process-NAME`, and its revision there is its number. Each partition of a layout has its own
checkpoint stream, so checkpoints of another layout, whose actors may live for a while, do not
affect it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

import msgspec

from eventstore.one_record import last_record
from eventstore.port import ANY, Appended, Log, StreamAppend
from eventstore.positions import At, move, moved
from eventstore.records import NewRecord

_LAYOUT = "ProcessLayout"
CHECKPOINT = "ProcessCheckpoint"
TYPES = (_LAYOUT, CHECKPOINT)

PREFIX = "rayfold-process-"

KEPT = 2
"""Records that the store is asked to keep in each of these streams: only the last one matters."""


class Layout(NamedTuple):
    """`number` is one more than the previous layout's; events after position `after` are
    handled.
    """

    number: int
    partitions: int
    after: int


class _Layout(msgspec.Struct):
    partitions: int
    position: int


class _Checkpoint(msgspec.Struct):
    position: int


_decode_layout = msgspec.json.Decoder(_Layout).decode
_decode = msgspec.json.Decoder(_Checkpoint).decode
_encode = msgspec.json.Encoder().encode


def moved_record(data: bytes, at: At) -> bytes:
    """Return a layout's or a checkpoint's data, adapted for a copy of the log.

    Raises:
        NotCopiedYet: see `Positions.at_known`.
    """
    return moved(data, lambda fields: move(fields, at))


async def lay_out(log: Log, name: str, partitions: int, prefixes: Sequence[str]) -> Layout:
    """Return the layout with this number of partitions: the current one, or a new one.

    A new layout continues from the slowest partition of the last one; a process ignores events that
    it knows already. The first layout begins with future events.

    Raises:
        StoreUnavailable: no answer.
    """
    stream = _stream_of(name)
    while True:
        last = await _last_layout(log, stream)
        if last is not None and last.partitions == partitions:
            return last
        if last is None:
            expected, after = None, await log.end_position(prefixes)
        else:
            expected, after = last.number, await _furthest_behind(log, name, last)
        record = NewRecord(_LAYOUT, _encode(_Layout(partitions, after)), {}, str(uuid4()))
        [result] = await log.append([StreamAppend(stream, expected, [record])])
        if isinstance(result, Appended):
            await log.keep_latest(stream, KEPT)


async def _last_layout(log: Log, stream: str) -> Layout | None:
    raw = await last_record(log, stream)
    if raw is None:
        return None
    found = _decode_layout(raw.data)
    return Layout(raw.revision, found.partitions, found.position)


async def _furthest_behind(log: Log, name: str, layout: Layout) -> int:
    checkpoints = [Checkpoints(log, name, layout, each) for each in range(layout.partitions)]
    return min([await each.load() for each in checkpoints])


def _stream_of(name: str) -> str:
    return f"{PREFIX}{name}"


class Checkpoints:
    """The checkpoints of one partition of a layout.

    An outdated checkpoint only costs time: a process ignores events that it has handled already.
    """

    def __init__(self, log: Log, name: str, layout: Layout, partition: int) -> None:
        self._log = log
        self._stream = f"{_stream_of(name)}-{layout.number}-{partition}"
        self._after = layout.after
        self._bounded = False
        self._saved = -1
        self._at = 0.0

    async def load(self) -> int:
        """Return the position to continue after.

        Raises:
            StoreUnavailable: no answer.
        """
        position = self._after
        raw = await last_record(self._log, self._stream)
        if raw is not None:
            position = _decode(raw.data).position
            self._bounded = raw.revision > 0
        self._saved, self._at = position, time.monotonic()
        return position

    async def save_after(self, position: int, interval: float) -> None:
        """Save the position if the last one was saved at least `interval` seconds ago.

        Raises:
            StoreUnavailable: no answer.
        """
        if time.monotonic() - self._at >= interval:
            await self.save(position)

    async def save(self, position: int) -> None:
        """Write the position, unless it was the last one written.

        Raises:
            StoreUnavailable: it may not have been written.
        """
        if position == self._saved:
            return
        record = NewRecord(CHECKPOINT, _encode(_Checkpoint(position)), {}, str(uuid4()))
        await self._log.append([StreamAppend(self._stream, ANY, [record])])
        self._saved, self._at = position, time.monotonic()
        if not self._bounded:
            await self._log.keep_latest(self._stream, KEPT)
            self._bounded = True
