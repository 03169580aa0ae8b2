"""A publication's checkpoints and parked keys: on the log, as they cannot be derived.

A view can be dropped and folded again, but what was sent to others cannot be undone: so this is not
in the database, and a rebuild, a restart or a restored backup publishes nothing again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from eventstore.one_record import last_record
from eventstore.port import ANY, InvalidAppend, Log, StreamAppend
from eventstore.positions import At, move, moved
from eventstore.records import NewRecord

CHECKPOINT = "PublicationCheckpoint"
PARKED = "PublicationParked"
RELEASED = "PublicationReleased"
TYPES = (CHECKPOINT, PARKED, RELEASED)

CHECKPOINTS = "rayfold-publication-"
PARKS = "rayfold-unpublished-"

KEPT = 2
"""Checkpoints that the event store is asked to keep: only the last one matters."""

TOGETHER = 500
"""Lanes that are recorded in one append: there may be as many parked as keys."""


class Parked(msgspec.Struct, frozen=True):
    """A key that is parked at an event. If `key` is empty, all events of `stream` wait."""

    key: str
    stream: str
    revision: int
    position: int
    error: str
    at: str

    @property
    def lane(self) -> str:
        """Return the lane, whose events wait together."""
        return lane_of(self.key, self.stream)


class _Released(msgspec.Struct):
    key: str
    stream: str


class _Checkpoint(msgspec.Struct):
    position: int


_decode_checkpoint = msgspec.json.Decoder(_Checkpoint).decode
_decode_parked = msgspec.json.Decoder(Parked).decode
_decode_released = msgspec.json.Decoder(_Released).decode
_encode = msgspec.json.Encoder().encode


def lane_of(key: str, stream: str) -> str:
    """Return the lane: a key; for an unreadable event, its stream."""
    return f"key {key}" if key else f"stream {stream}"


def moved_record(data: bytes, at: At) -> bytes:
    """Return a checkpoint's or a parked entry's data, adapted for a copy of the log.

    Raises:
        NotCopiedYet: see `Positions.at_known`.
    """
    return moved(data, lambda fields: move(fields, at))


def now_text() -> str:
    """Return the current time in the format of records."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class PublicationRecords:
    """The records of one publication: its checkpoints, and in another stream what is parked."""

    def __init__(self, log: Log, name: str) -> None:
        self._log = log
        self._checkpoints = f"{CHECKPOINTS}{name}"
        self._parks = f"{PARKS}{name}"
        self._bounded = False
        self._saved = -1
        self._saved_at = 0.0

    async def load(self) -> tuple[int | None, dict[str, Parked]]:
        """Return the position to continue after, None if it never ran; and what is parked, by lane.

        Raises:
            StoreUnavailable: no answer.
        """
        position = None
        last = await last_record(self._log, self._checkpoints)
        if last is not None:
            position = self._saved = _decode_checkpoint(last.data).position
        parked: dict[str, Parked] = {}
        async for raw in self._log.read_stream(self._parks):
            if raw.event_type == PARKED:
                found = _decode_parked(raw.data)
                parked[found.lane] = found
            elif raw.event_type == RELEASED:
                released = _decode_released(raw.data)
                parked.pop(lane_of(released.key, released.stream), None)
        return position, parked

    async def save_after(self, position: int, interval: float) -> None:
        """Save a checkpoint if the last one was saved at least `interval` seconds ago.

        Raises:
            StoreUnavailable: it may not have been written.
        """
        if time.monotonic() - self._saved_at >= interval:
            await self.save(position)

    async def save(self, position: int) -> None:
        """Save a checkpoint, unless it is the one that was saved last.

        Raises:
            StoreUnavailable: it may not have been written.
        """
        self._saved_at = time.monotonic()
        if position == self._saved:
            return
        await self._append(self._checkpoints, CHECKPOINT, [_Checkpoint(position)])
        self._saved = position
        if not self._bounded:
            await self._log.keep_latest(self._checkpoints, KEPT)
            self._bounded = True

    async def park(self, parked: Sequence[Parked]) -> None:
        """Record that lanes are parked.

        Raises:
            StoreUnavailable: not all of it may have been recorded.
        """
        await self._append(self._parks, PARKED, parked)

    async def release(self, parked: Sequence[Parked]) -> None:
        """Record that lanes are no longer parked.

        Raises:
            StoreUnavailable: not all of it may have been recorded.
        """
        released = [_Released(each.key, each.stream) for each in parked]
        await self._append(self._parks, RELEASED, released)

    async def _append(self, stream: str, event_type: str, bodies: Sequence[msgspec.Struct]) -> None:
        waiting = [bodies[at : at + TOGETHER] for at in range(0, len(bodies), TOGETHER)]
        while waiting:
            some = waiting.pop(0)
            records = [NewRecord(event_type, _encode(each), {}, str(uuid4())) for each in some]
            [answer] = await self._log.append([StreamAppend(stream, ANY, records)])
            if isinstance(answer, InvalidAppend) and len(some) > 1:  # too large, with long errors
                middle = len(some) // 2
                waiting[:0] = [some[:middle], some[middle:]]
