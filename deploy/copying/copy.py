"""Copies a log to another event store: in its order, at its revisions, and verified meanwhile.

Records that the target has already are compared with the source's first ones; then the source's
records are appended, and read back from the target: only that gives their positions there, and
verifies them. Memory holds 16 bytes per record, the names of streams that were deleted or
truncated, and some megabytes of appended records.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from uuid import uuid4

from deploy.copying.beginnings import REMOVED, Beginnings, beginnings_of, removed
from deploy.copying.own_records import CHECKPOINTS, is_checkpoint, is_copied, moved
from eventstore.deletions import deleted_stream, is_cut
from eventstore.errors import StoreUnavailable
from eventstore.identity import COPY, begin_copy, end_copy, is_unfinished_copy
from eventstore.identity import STREAM as IDENTITY
from eventstore.kurrentdb.whole_log import OF_USERS, WITH_SETTINGS, WholeLog, WholeRecord
from eventstore.one_record import first_record, last_record
from eventstore.port import ANY, Appended, InvalidAppend, StreamAppend
from eventstore.positions import NotCopiedYet, Positions
from eventstore.records import NewRecord

MOST_RECORDS = 500
MOST_BYTES = 256_000
"""The most bytes of one append: servers accept a megabyte by default."""

UNREAD = 4_000
UNREAD_BYTES = 8_000_000
"""The most bytes that were appended and not read back, not counting one batch."""

SHOWS = 10.0
"""Seconds within which appended records must be readable."""

TELL = 5.0
"""Seconds between two progress reports."""


class CopyRefused(Exception):
    """The copy is refused, or cannot go on; the message says why and what to do."""


@dataclass
class Copied:
    """The result. Up to the source's `position`, everything is in the target.

    `went_on`: the source was written to meanwhile, and no stack starts on the copy unless
    `up_to_now` was set. `by_category` counts records; `digest` covers all of them as they are in
    both logs.
    """

    records: int = 0
    found: int = 0
    """The number of records that were there already."""
    streams: int = 0
    position: int = 0
    went_on: bool = False
    checkpoints: int = 0
    removed: int = 0
    tombstoned: int = 0
    by_category: Counter[str] = field(default_factory=Counter)
    digest: str = ""
    seconds: float = 0.0


class Copy:
    """Copies one log, once."""

    def __init__(
        self,
        source: WholeLog,
        target: WholeLog,
        tell: Callable[[Copied], None],
        *,
        up_to_now: bool = False,
    ) -> None:
        """`tell` is called with the progress periodically.

        `up_to_now`: the copy is finished even if the source was written to meanwhile.
        """
        self._source = source
        self._target = target
        self._tell = tell
        self._up_to_now = up_to_now
        self._told_at = time.monotonic()
        self._copied = Copied()
        self._digest = hashlib.sha256()
        self._beginnings = Beginnings()
        self._positions = Positions()
        self._checkpoints: dict[str, WholeRecord] = {}
        self._ends: dict[str, int] = {}
        """The last revisions of truncated streams in the source."""
        self._reached: dict[str, int] = {}
        """The same for the target."""
        self._older: set[str] = set()
        """Streams of which the target's `$all` still has records that the source has removed."""
        self._read_until: int | None = None
        """The position in the target up to which it was read."""
        self._batch: list[tuple[WholeRecord, WholeRecord]] = []
        self._bytes = 0
        self._unread: deque[tuple[WholeRecord, WholeRecord]] = deque()
        self._unread_bytes = 0

    async def run(self) -> Copied:
        """Copy the log; return the result.

        Raises:
            CopyRefused: see there; the next run continues after what was copied.
            UnknownRecord: the source is of another Rayfold.
            StoreUnavailable: one of them does not answer.
        """
        began = time.monotonic()
        async with aclosing(self._ours()) as ours:
            is_as_it_was = await self._was_finished()
            try:
                await self._claim()
                end = await self._source.last_position()
                self._beginnings = await beginnings_of(self._source)
                await self._compare(ours)
                is_as_it_was = False
            finally:
                if is_as_it_was:  # for example a copy of another source, or it was interrupted
                    await end_copy(self._target)
            async for record in ours:
                await self._take(record)
        await self._flush()
        await self._read_back()
        await self._cut()
        await self._save_checkpoints()
        self._copied.went_on = await self._source.last_position() != end
        if self._up_to_now or not self._copied.went_on:
            await end_copy(self._target)
        self._copied.seconds = time.monotonic() - began
        self._copied.digest = self._digest.hexdigest()
        return self._copied

    async def _was_finished(self) -> bool:
        """Return whether the target is a copy that was finished.

        Raises:
            CopyRefused: nothing may be copied to it.
        """
        await self._check()
        last = await last_record(self._target, COPY)
        if last is None:
            async with aclosing(self._target.read_whole(OF_USERS, limit=1)) as found:
                async for there in found:
                    raise _not_ours(there)
        return last is not None and not await is_unfinished_copy(self._target)

    async def _claim(self) -> None:
        """Lock out stacks from the target, before anything that takes long.

        Raises:
            CopyRefused: a stack was faster, and the log is its own.
        """
        await begin_copy(self._target)
        try:
            await self._check()
        except CopyRefused:
            await end_copy(self._target)
            raise

    async def _check(self) -> None:
        if await is_unfinished_copy(self._source):
            raise CopyRefused("the source is an unfinished copy: finish that one first")
        if await first_record(self._target, IDENTITY) is not None:
            raise CopyRefused(
                "a stack was started on the target, so it has a log of its own: give an empty store"
            )

    # What is read.

    async def _ours(self) -> AsyncGenerator[WholeRecord, None]:
        """Yield the records of the source that belong in the target, in order."""
        async with aclosing(self._source.read_whole()) as records:
            async for record in records:
                self._copied.position = record.position
                if is_checkpoint(record):
                    self._checkpoints[record.stream] = record
                elif is_copied(record.stream):
                    if self._beginnings.is_cut(record.stream):
                        self._ends[record.stream] = record.revision
                    if self._beginnings.has(record):
                        yield record

    async def _theirs(self) -> AsyncGenerator[WholeRecord, None]:
        """Yield those that the target has, after what was read of it."""
        reading = self._target.read_whole(WITH_SETTINGS, after=self._read_until)
        async with aclosing(reading) as records:
            async for record in records:
                self._read_until = record.position
                if (deleted := deleted_stream(record)) is not None:
                    self._older.discard(deleted)
                if self._beginnings.is_cut(record.stream):
                    self._note_cut(record)
                if not is_copied(record.stream) or is_checkpoint(record):
                    continue
                if self._beginnings.has(record):
                    yield record

    def _note_cut(self, there: WholeRecord) -> None:
        """Record a record of the target in a stream that is truncated in the source.

        Raises:
            CopyRefused: it follows records that the source has deleted and the target has not.
        """
        stream = there.stream
        self._reached[stream] = there.revision
        if there.revision < self._beginnings.first.get(stream, 0):
            if there.event_type != REMOVED:
                self._older.add(stream)
        elif stream in self._older and stream in self._beginnings.deleted:
            raise CopyRefused(
                f"{stream} was deleted in the source and began again while it was copied, so that"
                " the target has what was deleted too: give an empty store"
            )

    async def _compare(self, ours: AsyncGenerator[WholeRecord, None]) -> None:
        """Compare the target's records with the source's."""
        async with aclosing(self._theirs()) as theirs:
            async for there in theirs:
                record = await anext(ours, None)
                if record is None:
                    raise _not_ours(there)
                self._note(record, moved(record, self._positions.at), there)
                self._copied.found += 1

    def _note(self, record: WholeRecord, expected: WholeRecord, there: WholeRecord) -> None:
        """Record that the target has a record.

        Raises:
            CopyRefused: it is a different record.
        """
        content = there.content
        if content != expected.content:
            raise CopyRefused(
                f"the target has something else at its position {there.position}, revision"
                f" {there.revision} of {there.stream}, than the source at its {record.position},"
                f" revision {record.revision} of {record.stream}: give an empty store, and let"
                " nobody else write to it"
            )
        self._positions.add(record.position, there.position)
        self._digest.update(content)
        copied = self._copied
        copied.records += 1
        copied.by_category[record.stream.partition("-")[0]] += 1
        if record.revision == self._beginnings.first.get(record.stream, 0):
            copied.streams += 1
        if time.monotonic() - self._told_at > TELL:
            self._told_at = time.monotonic()
            self._tell(copied)

    # What is written.

    async def _take(self, record: WholeRecord) -> None:
        try:
            new = moved(record, self._positions.at_known)
        except NotCopiedYet:  # most often a message that a process handled a moment before
            await self._flush()
            await self._read_back()
            new = moved(record, self._positions.at)
        if record.revision == self._beginnings.first.get(record.stream):
            if record.stream in self._older:  # otherwise readers of `$all` would count it as well
                await self._target.delete_stream(record.stream)
            await self._fill(record.stream, self._reached.get(record.stream, -1), record.revision)
        self._batch.append((record, new))
        self._bytes += new.size
        if len(self._batch) >= MOST_RECORDS or self._bytes >= MOST_BYTES:
            await self._flush()
            if len(self._unread) >= UNREAD or self._unread_bytes >= UNREAD_BYTES:
                await self._read_back()

    async def _flush(self) -> None:
        if not self._batch:
            return
        new = [each for _, each in self._batch]
        while (failed := await self._target.append_whole(new)) is not None:
            if isinstance(failed, InvalidAppend):
                raise CopyRefused(
                    f"the target refuses the records after position"
                    f" {self._batch[0][0].position} of the source: {failed.reason}"
                )
            if not await self._close_gaps(new, failed.streams):
                raise CopyRefused(
                    f"the target refuses {', '.join(failed.streams) or 'a stream'} as the"
                    " source has it: give an empty store, and let nobody else write to it"
                )
        self._unread.extend(self._batch)
        self._unread_bytes += self._bytes
        self._batch, self._bytes = [], 0

    async def _close_gaps(self, records: Sequence[WholeRecord], streams: Sequence[str]) -> bool:
        """Fill the missing beginnings of streams that the server itself has truncated.

        Return whether there were any.
        """
        firsts: dict[str, int] = {}
        for each in records:
            firsts.setdefault(each.stream, each.revision)
        closed = False
        for stream in streams or firsts:
            last = await last_record(self._target, stream)
            reached = -1 if last is None else last.revision
            if reached < firsts[stream] - 1:
                await self._fill(stream, reached, firsts[stream])
                if last is None:
                    self._beginnings.first[stream] = firsts[stream]
                closed = True
        return closed

    async def _fill(self, stream: str, reached: int, until: int) -> None:
        """Extend a stream from revision `reached`, such that it continues with `until`."""
        for start in range(reached + 1, until, MOST_RECORDS):
            some = removed(stream, range(start, min(start + MOST_RECORDS, until)))
            if (failed := await self._target.append_whole(some)) is not None:
                raise CopyRefused(
                    f"the target refuses {stream} as the source has it: {failed.reason}"
                )
            self._copied.removed += len(some)

    async def _read_back(self) -> None:
        """Read back what was appended.

        Raises:
            StoreUnavailable: it is not readable in time.
        """
        deadline = time.monotonic() + SHOWS
        while self._unread:
            async with aclosing(self._theirs()) as theirs:
                async for there in theirs:
                    self._note(*self._unread.popleft(), there)
                    if not self._unread:
                        self._unread_bytes = 0
                        return
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"the appended records cannot be read after {SHOWS:.0f} s")
            await asyncio.sleep(0.05)  # a follower node may lag

    async def _cut(self) -> None:
        """Delete and truncate what is deleted and truncated in the source."""
        for stream in self._beginnings.gone & self._ends.keys():
            await self._fill(stream, self._reached.get(stream, -1), self._ends[stream] + 1)
            await self._target.delete_stream(stream)
        for stream, first in self._beginnings.first.items():
            there = await first_record(self._target, stream)
            if there is not None and there.revision < first:
                cut = await is_cut(self._source, stream, first)
                await self._target.truncate(stream, first, cut=cut)
        for stream in self._beginnings.tombstoned:
            await self._target.delete_stream(stream, tombstone=True)
        self._copied.tombstoned = len(self._beginnings.tombstoned)

    async def _save_checkpoints(self) -> None:
        """Write only the last checkpoint of each stream: earlier ones no longer matter."""
        for stream, record in self._checkpoints.items():
            new = moved(record, self._positions.at)
            last = await last_record(self._target, stream)
            if last is None or last.data != new.data:
                given = NewRecord(new.event_type, new.data, {}, str(uuid4()))
                [answer] = await self._target.append([StreamAppend(stream, ANY, [given])])
                if not isinstance(answer, Appended):
                    raise CopyRefused(f"the target refuses {stream}: {answer}")
                await self._target.keep_latest(stream, CHECKPOINTS[record.event_type])
            self._copied.checkpoints += 1


def _not_ours(there: WholeRecord) -> CopyRefused:
    return CopyRefused(
        f"the target has more than the source, from revision {there.revision} of {there.stream} on:"
        " give an empty store"
    )
