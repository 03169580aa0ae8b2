"""The port of a durable read store: what a store implements; all the rest is shared.

A store keeps the rows of each view in a *generation*: rows by key, the *checkpoint* of each
*partition* of the keys, and what is parked. One generation of a view is live. The runtime follows
the log, folds, scales, rebuilds, parks, waits for tokens and verifies, and uses a store only
through these four protocols. It relies on the following:

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
"""Waits until a build has reached a position; returns the position that it must have reached. That
is less if the log was restored to an earlier moment. None: the build does not get there in time.
Raises `WouldPark` if events that came meanwhile have parked more: see `Generations.newly_parked`.
"""


class Place(NamedTuple):
    """The address of a store, and the stack whose data it keeps."""

    url: str
    stack: str
    """The stack's id: it separates the data of two stacks in one server."""


class Found(NamedTuple):
    """An answer, and a position that all of it has reached; parts of it may be further."""

    result: RowResult
    covered: int


class Transaction(Protocol):
    """The changes of a batch of events. Views and keys are those of one writer."""

    async def load(self, view: str, keys: Collection[str]) -> dict[str, VersionedRow]:
        """Return the rows with these keys that exist."""
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
        have no row in the generation, so that none has to be looked up.

        Raises:
            Exception: the store does not take a row; see `ReadStore.refuses`.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo the changes made within it if it raises; the transaction can continue."""
        ...

    async def park(self, parked: Collection[Parked], held: Collection[Held]) -> None:
        """Store parked events, and those that wait behind them. What is stored already stays."""
        ...

    async def release(self, parked: Parked) -> list[Held]:
        """Remove what is parked of a row; return the events behind it, in the log's order."""
        ...

    async def forget(self, parked: Collection[Parked]) -> None:
        """Remove what is parked of deleted streams, with the events that wait behind it.

        Without a key, the stream itself was parked.
        """
        ...

    async def put_back(self, view: str, position: int) -> None:
        """Move the view's checkpoint only to this position."""
        ...


class Writer(Protocol):
    """One partition of some views, written by one projector."""

    positions: dict[str, int]
    """The checkpoint of each view: as opened, then as of the last transaction."""

    async def open(self) -> list[Parked]:
        """Load the checkpoints; return what is parked in these views.

        Raises:
            Fenced: the keys are partitioned in another way, or a generation is gone, or is of
                another definition.
        """
        ...

    def transaction(self, to: Mapping[str, int]) -> AbstractAsyncContextManager[Transaction]:
        """Apply the changes made within it, and move the views' checkpoints to `to`; or do nothing.

        A checkpoint that is further already does not move.

        Raises:
            Fenced: another writer has written since; nothing was changed.
        """
        ...

    async def caught_up(self) -> None:
        """Note that these rows are now complete up to the log's end."""
        ...

    async def lost(self) -> None:
        """Never return; raise if a writer that has nothing to write cannot continue."""
        ...


class Generations(Protocol):
    """What the owner of a stack does with a store, one operation at a time."""

    async def prepare(
        self, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
    ) -> list[ViewDefinition]:
        """Create what is missing; return the views whose live generation is of another definition.

        Those keep it until a new one replaces it. Remains of unfinished builds are removed.
        `partitions` has the number for each view.
        """
        ...

    async def partition(self, views: Sequence[ViewDefinition], number: int) -> None:
        """Divide the live keys of these views into so many partitions.

        Each begins at the checkpoint of the slowest: rows know their own position. Writers of the
        previous partitioning are fenced.
        """
        ...

    async def begin(self, view: ViewDefinition) -> str:
        """Create an empty generation of one partition beside the live one; return its name."""
        ...

    async def finish(self, view: ViewDefinition, generation: str) -> None:
        """Do what is faster on a full generation than row by row, such as building indexes."""
        ...

    async def furthest(self, view: ViewDefinition) -> int:
        """Return the checkpoint of the furthest partition of the live generation."""
        ...

    async def newly_parked(self, view: ViewDefinition, generation: str) -> NewlyParked | None:
        """Return what a generation that is being built has parked, and the live one has not.

        There may be as much parked as there are rows: `newly_parked.Comparison` compares them one
        by one.
        """
        ...

    async def switch(self, view: ViewDefinition, generation: str, reached: Reached) -> None:
        """Replace the live generation by one that was built, at no earlier position.

        `reached` waits for that position. Writers of the live one wait meanwhile, and are then
        fenced; readers are not interrupted. The new one gets the partitions of the old one, which
        is dropped.

        Raises:
            ProjectionError: the build did not get that far, or `reached` says that it serves less;
                nothing has changed.
        """
        ...

    async def discard(self, view: ViewDefinition, generation: str) -> None:
        """Remove a generation that is not live, if it exists."""
        ...


class ReadStore(Protocol):
    """A store of rows. Every process that reads or writes has an instance of its own.

    A store that does not answer raises `ReadStoreUnavailable`; a writer may raise any error. The
    operation is tried again, unless `refuses` says that the error is about a row.
    """

    name: str
    required: bool
    """Whether a stack needs it to start."""
    most_events: int
    """In one transaction."""

    @property
    def generations(self) -> Generations:
        """The operations of the stack's owner."""
        ...

    def writing(
        self,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        generations: Mapping[str, str],
    ) -> AbstractAsyncContextManager[Writer]:
        """Connect a writer. `generations` names those being built, by view; others are live."""
        ...

    def refuses(self, error: BaseException) -> bool:
        """Tell whether the store will never take a row, however often it is tried."""
        ...

    def is_too_much(self, error: BaseException) -> bool:
        """Tell whether fewer events in one transaction may help."""
        ...

    async def connect(self) -> None:
        """Get ready to answer; a store that is not `required` may be unavailable for now."""
        ...

    async def look(self) -> None:
        """Check the servers that answer; called repeatedly."""
        ...

    async def find(self, query: RowQuery) -> Found:
        """Answer from the live generation. Keys and filters are compared as text.

        Raises:
            BeingBuilt: rows were lost, or not built yet.
            BadCursor: see `projections.pages`, which defines the order of rows and the cursors.
        """
        ...

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """Return every row, and the answer to each query, as of one moment."""
        ...

    def status(self, end: int) -> list[dict[str, Any]]:
        """Return the servers that answer besides the main one, as parts of the stack."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class MakesStore(Protocol):
    """What an entry point of the group `rayfold.stores` names: usually the store's class."""

    def __call__(self, registry: Registry, place: Place) -> ReadStore:
        """Create a store; it connects when it is first used."""
        ...
