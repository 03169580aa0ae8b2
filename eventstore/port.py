"""What Rayfold needs from an event store, and what it may rely on.

Two implementations pass the same suite: `EventLog` (a server, over gRPC) and
`MemoryLog` (this process, for a user's fast tests).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from eventstore.records import Batch, NewRecord, RawRecord

ANY: Final = -2
"""As an expected revision: any. For caches; never for an aggregate."""


class StreamAppend(NamedTuple):
    """Records for one stream. `expected` is its last revision; None if it must not exist."""

    stream: str
    expected: int | None
    records: list[NewRecord]


class JointAppend(NamedTuple):
    """Records for several streams, in this order, all or none of them.

    `expected` has the expected revision, as in `StreamAppend`, of every stream that is written to
    or only checked; never `ANY`.
    """

    expected: Mapping[str, int | None]
    records: list[tuple[str, NewRecord]]


class Appended(NamedTuple):
    """The records are durable, from revision `expected + 1` on; `position` is at or after the last.

    A deleted stream continues with the revision after its last one: then `last_revision` is that
    of the last record. None: it follows from `expected`.
    """

    position: int
    last_revision: int | None = None


class JointlyAppended(NamedTuple):
    """The records are durable; `position` is at or after the last one.

    `revisions` has the last revision of each stream.
    """

    position: int
    revisions: dict[str, int]


class InvalidAppend(NamedTuple):
    """The append can never succeed: it is too large, or has a name that the store does not allow.

    `by_value`: a value is outside what the store of the state can keep. Most likely it came with
    the command.
    """

    reason: str
    by_value: bool = False


class Conflict(NamedTuple):
    """Nothing was appended, as far as is known: the stream is not at the expected revision.

    Or the outcome is unknown. In either case, fold the stream again and look there for the
    command's id. For a `JointAppend`, `streams` are those that are not at the expected revision;
    empty: the store does not say which.
    """

    reason: str
    streams: tuple[str, ...] = ()


BEING_FORGOTTEN: Final = Conflict("a person in its data is being forgotten")
"""Not appended, because the decision may rest on data that is being forgotten; a retry after a
second may succeed.
"""

AppendResult = Appended | JointlyAppended | Conflict | InvalidAppend


class Log(Protocol):
    """An event store.

    A read, or a subscription, keeps a call to the server open until its last record. A caller that
    may stop before closes it (`contextlib.aclosing`).
    """

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        """Append to many streams; return an answer for each, in order.

        The records of each append are written completely or not at all, and only at `expected`.
        A conflict or invalid records of one append do not affect the others. What is acknowledged
        is durable. A deleted stream counts as one that does not exist; a tombstoned one always has
        a conflict. No two appends name the same stream. For a store that is not atomic, every
        `JointAppend` is invalid.

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
        """Yield a stream's events after a revision (exclusive); nothing if the stream does not
        exist.

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
        """Yield the events of streams with these name prefixes after a position, in the order of
        `$all`.

        `backwards`: those before the position, the last first.

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
        """Yield the same events as `read_all`, and then new ones, without end.

        With `event_types`, only events of these types are transferred.

        Batches may be up to `gather` seconds apart, so that there are fewer of them; the first
        event after a pause comes at once.

        Raises:
            NoSuchPosition: the log does not have `after`.
            StoreUnavailable: the connection broke; subscribe again after the last position.
        """
        ...

    async def delete_stream(self, stream: str, *, tombstone: bool = False) -> bool:
        """Delete a stream: it reads as if it did not exist, and its events are removed at some
        time.

        If it is appended to again, it begins at a later revision; with `tombstone` its name can
        never be used again. Return False if there was nothing to delete, which is no error.

        Readers of `$all` see a `$metadata` event in `$$<stream>` (`{"$tb": 2**63 - 1}`), or a
        `$streamDeleted` event in the stream itself.

        Raises:
            StoreUnavailable: no answer; it may have been deleted.
        """
        ...

    async def keep_latest(self, stream: str, count: int) -> None:
        """Let the store remove all but the last so many events of a stream, at some time.

        Raises:
            StoreUnavailable: no answer; it may not know.
        """
        ...

    async def end_position(self, prefixes: Sequence[str] | None) -> int:
        """Return the position of the last event of streams with these name prefixes; 0 without any.

        None means all streams, including the server's own.

        Raises:
            StoreUnavailable: no answer.
        """
        ...

    async def is_atomic(self) -> bool:
        """Return whether the store takes a `JointAppend`.

        Raises:
            StoreUnavailable: no answer.
        """
        ...

    @property
    def receipts_share_position(self) -> bool:
        """Return whether all records of one `append` get the same position, the last one's."""
        ...

    async def close(self) -> None:
        """End subscriptions and close the connection."""
        ...
