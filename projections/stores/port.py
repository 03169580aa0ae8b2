"""The port of a durable read store: what a store implements itself; the runtime does the rest.

A store keeps the rows of each view in a *generation*: rows by key, the position of each *partition*
of the keys (its *checkpoint*), and what is parked. One generation of a view is live. The runtime
follows the log, folds, scales, rebuilds, parks, waits for tokens and verifies; it drives a store by
these four protocols alone. It relies on these guarantees:

- A transaction's rows, parked events and checkpoint are written together, or not at all.
- A writer that is opened sees what was written last. If another writer has moved its checkpoint
  since, or its generation or partitioning was replaced, it is refused (`Fenced`), and nothing is
  changed. A store may lose its last transactions if it loses rows and checkpoint together: they
  are folded again.
- An answer comes from one live generation, with the position that it has reached. A store that
  has lost rows raises `BeingBuilt` until they are there again.
- A switch replaces the live generation by one that has come as far, between two answers.

`tests/contract/stores/` tests a store; docs/how-to/add-a-read-store.md builds one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from projections.newly_parked import NewlyParked
from projections.poison import Held, Parked
from projections.row_query import RowQuery, RowResult, Snapshot
from rayfold import Registry, VersionedRow, ViewDefinition

Reached = Callable[[int], Awaitable[int | None]]
"""Waits until a build has reached a position; returns the position that it must then have. That is
lower if the log was restored to an earlier moment and has no more. None: it does not get there in
time. Raises `WouldPark` if the events since have parked more: see `Generations.newly_parked`.
"""


class Place(NamedTuple):
    """The address of a store, and what in it belongs to this stack."""

    url: str
    stack: str
    """The stack's id: it separates the data of stacks that share a server."""


class Found(NamedTuple):
    """An answer, and the position that all of it has reached; parts of it may be further."""

    result: RowResult
    covered: int


class Transaction(Protocol):
    """The changes of a batch of events. Views and keys are those of one writer."""

    async def load(self, view: str, keys: Collection[str]) -> dict[str, VersionedRow]:
        """Return the rows with these keys, if they exist."""
        ...

    async def store(
        self,
        view: str,
        rows: Mapping[str, VersionedRow | None],
        before: Mapping[str, VersionedRow],
        new: Collection[str] = (),
    ) -> None:
        """Write rows by key; None removes the row.

        `before` has the existing rows, as `load` returned them. `new` are keys that are known to
        have no row, so that nothing has to be looked up.

        Raises:
            Exception: the store rejects one of them; `ReadStore.refuses` tells which errors mean
                that.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo the changes made within it if it raises; the transaction can go on."""
        ...

    async def park(self, parked: Collection[Parked], held: Collection[Held]) -> None:
        """Store what was parked, and what waits behind it. Existing entries stay."""
        ...

    async def release(self, parked: Parked) -> list[Held]:
        """Remove a parked row; return the events that waited behind it, in the log's order."""
        ...

    async def forget(self, parked: Collection[Parked]) -> None:
        """Remove what was parked of deleted streams, with what waits behind it.

        An entry without a key means that the whole stream was parked.
        """
        ...

    async def put_back(self, view: str, position: int) -> None:
        """Set the view's checkpoint only to this position, which is lower."""
        ...


class Writer(Protocol):
    """One partition of some views, written by one projector."""

    positions: dict[str, int]
    """By view, the checkpoint: first as opened, then as of the last transaction."""

    async def open(self) -> list[Parked]:
        """Read the checkpoints from the store; return what is parked in these views.

        Raises:
            Fenced: the keys have another partitioning, or a generation is gone or has another
                definition.
        """
        ...

    def transaction(self, to: Mapping[str, int]) -> AbstractAsyncContextManager[Transaction]:
        """Apply the changes made within it and move these views' checkpoints to `to`, atomically.

        A checkpoint that is already further is not moved.

        Raises:
            Fenced: another writer has written since; nothing was written.
        """
        ...

    async def caught_up(self) -> None:
        """Record that these rows are complete up to the log's end, as of now."""
        ...

    async def lost(self) -> None:
        """Never return; raise if a writer that has nothing to write cannot go on."""
        ...


class Generations(Protocol):
    """Operations of the stack's owner on a store: one at a time."""

    async def prepare(
        self, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
    ) -> list[ViewDefinition]:
        """Create what is missing; return the views whose live generation has another definition.

        Those keep it until a new one replaces it. The remains of unfinished builds are removed.
        `partitions` has a number for each view.
        """
        ...

    async def partition(self, views: Sequence[ViewDefinition], number: int) -> None:
        """Divide the live keys of these views into this number of partitions.

        Each one begins where the slowest was: rows have their own position. Writers with the old
        partitioning are fenced.
        """
        ...

    async def begin(self, view: ViewDefinition) -> str:
        """Create an empty generation of one partition beside the live one; return its name."""
        ...

    async def finish(self, view: ViewDefinition, generation: str) -> None:
        """Do what is faster on a full generation than row by row."""
        ...

    async def furthest(self, view: ViewDefinition) -> int:
        """Return the position of the furthest partition of the live generation."""
        ...

    async def newly_parked(self, view: ViewDefinition, generation: str) -> NewlyParked | None:
        """Return what a generation being built has parked and the live one has not.

        There may be as many as rows: `newly_parked.Comparison` compares them one by one.
        """
        ...

    async def switch(self, view: ViewDefinition, generation: str, reached: Reached) -> None:
        """Replace the live generation by a built one, at the same position or a later one.

        `reached` waits for that. Writers of the live one wait meanwhile, and are then fenced;
        readers go on. The new one gets the old one's partitioning; the old one is dropped.

        Raises:
            ProjectionError: the build did not get that far, or `reached` says that it serves less;
                nothing has changed.
        """
        ...

    async def discard(self, view: ViewDefinition, generation: str) -> None:
        """Remove a generation that is not live; a missing one is not an error."""
        ...


class ReadStore(Protocol):
    """A store of rows. Every process that reads or writes has its own instance.

    If the store does not answer, methods raise `ReadStoreUnavailable`, or a writer any error: it
    tries again, unless `refuses` says that the error is about a row.
    """

    name: str
    required: bool
    """Whether a stack requires it in order to start."""
    most_events: int
    """The most events in one transaction."""

    @property
    def generations(self) -> Generations:
        """Operations of the stack's owner."""
        ...

    def writing(
        self,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        generations: Mapping[str, str],
    ) -> AbstractAsyncContextManager[Writer]:
        """Connect a writer. `generations` has those being built; other views use the live one."""
        ...

    def refuses(self, error: BaseException) -> bool:
        """Return whether the store rejects a row, however often it is tried."""
        ...

    async def is_too_much(self, error: BaseException) -> bool:
        """Return whether a smaller batch may succeed."""
        ...

    async def connect(self) -> None:
        """Connect; a store that is not `required` may be away for now."""
        ...

    async def look(self) -> None:
        """Check the servers that answer queries; called periodically."""
        ...

    async def find(self, query: RowQuery) -> Found:
        """Answer a query from the live generation. Keys and filters are compared as text.

        Raises:
            BeingBuilt: rows were lost, or never existed, and are not complete yet.
            BadCursor: see `projections.pages`, which has the order of rows and the cursors.
        """
        ...

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """Return every row, and an answer to each query, as of one moment."""
        ...

    def status(self, end: int) -> list[dict[str, Any]]:
        """Return additional servers that answer queries, as parts of the stack."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class MakesStore(Protocol):
    """The object of an entry point in the group `rayfold.stores`: usually the store's class."""

    def __call__(self, registry: Registry, place: Place) -> ReadStore:
        """Create a store; it connects when it is first used."""
        ...
