"""How a process manager is divided, and how far each partition has followed the log.

A *layout* says how many partitions there are, and from where they begin; it is a record of the
stream `rayfold-process-NAME`, and its revision there is its number. Each partition of a layout has
a stream of its own for its checkpoints, so that those of another layout, whose actors may live for
a while, mean nothing to it.
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
"""Records of each of these streams that the store is asked to keep: the last one matters."""


class Layout(NamedTuple):
    """`number` is one more than that of the layout before; keys are told from `after` on."""

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
    """Return a layout's or a checkpoint's data as a copy of the log has it.

    Raises:
        NotCopiedYet: see `Positions.at_known`.
    """
    return moved(data, lambda fields: move(fields, at))


async def lay_out(log: Log, name: str, partitions: int, prefixes: Sequence[str]) -> Layout:
    """Return the layout with so many partitions: the one that there is, or a new one.

    A new one goes on from where the partition of the last one that is furthest behind has come:
    whatever is told again, a process knows already. The first begins with what happens from now on.

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
    """Of one partition of a layout.

    One that is older than need be costs time alone: a process knows what it was told.
    """

    def __init__(self, log: Log, name: str, layout: Layout, partition: int) -> None:
        self._log = log
        self._stream = f"{_stream_of(name)}-{layout.number}-{partition}"
        self._after = layout.after
        self._bounded = False
        self._saved = -1
        self._at = 0.0

    async def load(self) -> int:
        """Return the position to go on after.

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
        record = NewRecord(CHECKPOINT, _encode(_Checkpoint(position)), {}, str(uuid4()))
        await self._log.append([StreamAppend(self._stream, ANY, [record])])
        self._saved, self._at = position, time.monotonic()
        if not self._bounded:
            await self._log.keep_latest(self._stream, KEPT)
            self._bounded = True
