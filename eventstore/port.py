"""What Rayfold needs from an event store, and what it may rely on.

Two implementations pass the same suite: `EventLog` (a server, over gRPC) and
`MemoryLog` (this process, for a user's fast tests).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from eventstore.records import Batch, NewRecord, RawRecord

ANY: Final = -2
"""As an expected revision: wherever the stream is. For caches; never for an aggregate."""


class StreamAppend(NamedTuple):
    """Records for one stream. `expected` is its last revision; None if it must not exist."""

    stream: str
    expected: int | None
    records: list[NewRecord]


class JointAppend(NamedTuple):
    """Records for several streams, in this order, all or none of them.

    `expected` has every stream of them, and those that are checked alone, each as `StreamAppend`
    has it; never `ANY`.
    """

    expected: Mapping[str, int | None]
    records: list[tuple[str, NewRecord]]


class Appended(NamedTuple):
    """Durable, from revision `expected + 1` on; `position` is at or after the last of them.

    A stream that was deleted counts on where it ended: then `last_revision` says where the
    last record is. None: where it was expected.
    """

    position: int
    last_revision: int | None = None


class JointlyAppended(NamedTuple):
    """Durable; `position` is at or after the last record, `revisions` has that of each stream."""

    position: int
    revisions: dict[str, int]


class InvalidAppend(NamedTuple):
    """Never to be appended: too large, or with a name that the store does not allow.

    `by_value`: a value is beyond what keeps the state; as like as not it came with the command.
    """

    reason: str
    by_value: bool = False


class Conflict(NamedTuple):
    """Not appended by this call as far as is known: the stream is not where expected.

    Or the outcome is unknown. Either way the remedy is to fold the stream again and to
    look there for the command's id. Of a `JointAppend`, `streams` are those that are not where
    expected; empty: the store does not say which.
    """

    reason: str
    streams: tuple[str, ...] = ()


BEING_FORGOTTEN: Final = Conflict("somebody of whom it tells is being forgotten")
"""Not appended as it may have been decided on what is to be forgotten; in a second it may be."""

AppendResult = Appended | JointlyAppended | Conflict | InvalidAppend


class Log(Protocol):
    """An event store.

    A read, or a subscription, holds a call to the server open until its last record: whoever may
    end before closes it (`contextlib.aclosing`).
    """

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        """Append to many streams; return an answer for each, in order.

        Each one's records are appended whole or not at all, and only at `expected`.
        One stream's conflict, or invalid records, do not hold up the others. Acknowledged
        means durable. A deleted stream does not exist, a tombstoned one has conflicts only.
        No two of them name the same stream. A store that is not atomic finds every
        `JointAppend` invalid.

        Raises:
            StoreUnavailable: no answer; any of them may have been appended.
        """
        ...

    def read_stream(
        self,
        stream: str,
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[RawRecord, None]:
        """Yield a stream's events after that revision (exclusive); none if it does not exist.

        Raises:
            StreamTombstoned: it was deleted for good.
            StoreUnavailable: no answer.
        """
        ...

    def read_all(
        self,
        prefixes: Sequence[str],
        *,
        after: int | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[RawRecord, None]:
        """Yield events of streams whose names begin so, in `$all` order, after that position.

        Backwards, those before it, the last first.

        Raises:
            StoreUnavailable: no answer.
        """
        ...

    def subscribe(
        self,
        prefixes: Sequence[str],
        after: int | None,
        *,
        gather: float = 0.0,
        event_types: Sequence[str] = (),
    ) -> AsyncGenerator[Batch, None]:
        """Yield the same without end: what is there, then what comes.

        Where `event_types` are given, events of these alone: the others never travel.

        Batches may come as much as `gather` seconds apart, for whoever pays for each of them;
        the first event after a silence comes at once.

        Raises:
            NoSuchPosition: the log does not have `after`.
            StoreUnavailable: the connection broke; subscribe again after the last position.
        """
        ...

    async def delete_stream(self, stream: str, *, tombstone: bool = False) -> bool:
        """Delete a stream: it reads as if it did not exist, and its events are gone in time.

        Appended to again, it begins again at a later revision; with `tombstone` its name can
        never be used again. Deleting what is not there, or not there any more, is no error: False
        says that nothing was.

        Readers of `$all` see a `$metadata` event in `$$<stream>` (`{"$tb": 2**63 - 1}`), or a
        `$streamDeleted` event in the stream itself.

        Raises:
            StoreUnavailable: no answer; it may have been deleted.
        """
        ...

    async def keep_latest(self, stream: str, count: int) -> None:
        """Let the store drop all but the last so many events of a stream, sooner or later.

        Raises:
            StoreUnavailable: no answer; it may not know.
        """
        ...

    async def end_position(self, prefixes: Sequence[str] | None) -> int:
        """Return the position of the last event of streams whose names begin so; 0 without any.

        With None that is of all streams, the server's own too.

        Raises:
            StoreUnavailable: no answer.
        """
        ...

    async def is_atomic(self) -> bool:
        """Tell whether it takes a `JointAppend`.

        Raises:
            StoreUnavailable: no answer.
        """
        ...

    @property
    def receipts_share_position(self) -> bool:
        """Tell whether all that one `append` wrote was given one position, the last event's."""
        ...

    async def close(self) -> None:
        """End subscriptions and close the connection."""
        ...
