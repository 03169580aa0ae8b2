"""The port of a durable read store: what a store does itself, so that all else is done for it.

A store keeps the rows of each view in a *generation*: rows by key, how far each *partition* of
the keys has come (its *checkpoint*), and what is parked. One generation of a view is live. The
runtime follows the log, folds, scales, rebuilds, parks, waits for tokens and verifies; it drives
a store by these four protocols alone. What it relies on:

- A transaction's rows, parked events and checkpoint are written together, or not at all.
- Whoever opens a writer sees what was written last. A writer whose checkpoint somebody else has
  moved since, or whose generation or partitioning was replaced, is refused (`Fenced`) and has
  changed nothing. A store may lose the last transactions, if it loses checkpoint and rows
  together: they are folded again.
- An answer comes from one live generation, with the position that it has reached, and never from
  what was lost: a store that has lost rows says so (`BeingBuilt`) until they are there again.
- A switch puts a generation that has come as far in the live one's place, between two answers.

`tests/contract/stores/` holds a store to it; docs/how-to/add-a-read-store.md builds one.
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
"""Waits until a build has come to a position; returns how far it has to be then. That is less where
the log was restored to an earlier moment and has no more. None: it does not come so far in time.
Raises `WouldPark` where what came meanwhile has parked more: see `Generations.newly_parked`."""


class Place(NamedTuple):
    """Where a store is, and what in it is ours."""

    url: str
    stack: str
    """The stack's id: what two stacks keep in one server never meets."""


class Found(NamedTuple):
    """An answer, and the position that all of it has reached: some of it may be further."""

    result: RowResult
    covered: int


class Transaction(Protocol):
    """What a batch of events changes. Views and keys are those of one writer."""

    async def load(self, view: str, keys: Collection[str]) -> dict[str, VersionedRow]:
        """Return the rows with these keys, as far as they exist."""
        ...

    async def store(
        self,
        view: str,
        rows: Mapping[str, VersionedRow | None],
        before: Mapping[str, VersionedRow],
        new: Collection[str] = (),
    ) -> None:
        """Write rows by key; None removes the row.

        `before` has the rows that exist now, as `load` gave them. `new` are keys of which the
        generation is known to have no row, so that nothing has to be looked for.

        Raises:
            Exception: the store does not take one of them; `ReadStore.refuses` tells.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Undo what is done within it if it raises; the transaction can go on."""
        ...

    async def park(self, parked: Collection[Parked], held: Collection[Held]) -> None:
        """Keep what was parked, and what waits behind it. What is kept already stays."""
        ...

    async def release(self, parked: Parked) -> list[Held]:
        """Forget a parked row; return what has waited behind it, in the log's order."""
        ...

    async def forget(self, parked: Collection[Parked]) -> None:
        """Forget what was parked of deleted streams, with what waits behind it.

        Without a key it is the stream itself that was parked.
        """
        ...

    async def put_back(self, view: str, position: int) -> None:
        """Let the view's checkpoint come to this position only."""
        ...


class Writer(Protocol):
    """One partition of some views, written by one projector."""

    positions: dict[str, int]
    """By view, the checkpoint: as opened, then as of the last transaction."""

    async def open(self) -> list[Parked]:
        """Take the checkpoints as the store has them; return what is parked in these views.

        Raises:
            Fenced: the keys are partitioned in another way, or a generation is gone, or is of
                another definition.
        """
        ...

    def transaction(self, to: Mapping[str, int]) -> AbstractAsyncContextManager[Transaction]:
        """Do what is done within it, and bring these views' checkpoints to `to`; or nothing.

        Of a checkpoint that is further already, nothing moves.

        Raises:
            Fenced: somebody else has written since. Nothing was.
        """
        ...

    async def caught_up(self) -> None:
        """Note that these rows are complete up to the log's end, as of now."""
        ...

    async def lost(self) -> None:
        """Return never, or raise what keeps a writer from going on that has nothing to write."""
        ...


class Generations(Protocol):
    """What the owner of a stack does to a store: one at a time."""

    async def prepare(
        self, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
    ) -> list[ViewDefinition]:
        """Make what is missing; return the views whose live generation is of another definition.

        Those keep it until a new one takes its place. What is left of builds that nobody
        finished is removed. `partitions` has a number for each view.
        """
        ...

    async def partition(self, views: Sequence[ViewDefinition], number: int) -> None:
        """Cut the live keys of these views into so many partitions.

        Every one begins where the slowest was: rows know their own position. Writers of the
        partitioning before are fenced.
        """
        ...

    async def begin(self, view: ViewDefinition) -> str:
        """Make an empty generation beside the live one, of one partition; return its name."""
        ...

    async def finish(self, view: ViewDefinition, generation: str) -> None:
        """Do what is quicker on a full generation than row by row."""
        ...

    async def furthest(self, view: ViewDefinition) -> int:
        """Return how far the furthest partition of the live generation has come."""
        ...

    async def newly_parked(self, view: ViewDefinition, generation: str) -> NewlyParked | None:
        """Return what a generation in the making has parked, and the live one has not.

        It may be as much as there are rows: `newly_parked.Comparison` compares them one by one.
        """
        ...

    async def switch(self, view: ViewDefinition, generation: str, reached: Reached) -> None:
        """Put a built generation in the live one's place, at no earlier a position.

        `reached` is asked for that. Writers of the live one wait meanwhile, and are fenced then;
        readers go on. The new one is partitioned as the old one was, which is dropped.

        Raises:
            ProjectionError: the build did not come so far, or `reached` says that it serves less;
                nothing has changed.
        """
        ...

    async def discard(self, view: ViewDefinition, generation: str) -> None:
        """Remove a generation that is not live; none is no error."""
        ...


class ReadStore(Protocol):
    """A store of rows. Every process that reads or writes has one of its own.

    What does not answer raises `ReadStoreUnavailable` in all that it does, or within a writer
    anything: that is tried again, unless `refuses` says that it is about a row.
    """

    name: str
    required: bool
    """Whether a stack does not start without it."""
    most_events: int
    """In one transaction."""

    @property
    def generations(self) -> Generations:
        """What the owner of the stack does."""
        ...

    def writing(
        self,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        generations: Mapping[str, str],
    ) -> AbstractAsyncContextManager[Writer]:
        """Connect a writer. `generations` names those in the making; others are live ones."""
        ...

    def refuses(self, error: BaseException) -> bool:
        """Tell whether the store does not take a row, however often it is tried."""
        ...

    def is_too_much(self, error: BaseException) -> bool:
        """Tell whether fewer events at a time may help."""
        ...

    async def connect(self) -> None:
        """Be ready to answer; a store that is not `required` may be away for now."""
        ...

    async def look(self) -> None:
        """See how the servers are that answer: called again and again."""
        ...

    async def find(self, query: RowQuery) -> Found:
        """Answer from the live generation. Keys and filters are compared as text.

        Raises:
            BeingBuilt: rows were lost, or never were there, and are not complete yet.
            BadCursor: see `projections.pages`, which has the order of rows and the cursors.
        """
        ...

    async def snapshot(self, view: str, queries: Sequence[RowQuery]) -> Snapshot:
        """Return every row, and an answer to each question, as of one moment."""
        ...

    def status(self, end: int) -> list[dict[str, Any]]:
        """Return servers that answer beside the main one, as parts of the stack."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class MakesStore(Protocol):
    """What an entry point of the group `rayfold.stores` names: the store's class, most often."""

    def __call__(self, registry: Registry, place: Place) -> ReadStore:
        """Make one; it connects when it is first used."""
        ...
