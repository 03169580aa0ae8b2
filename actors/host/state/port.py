"""The interface to the store of states, and its guarantees.

Two implementations pass the same suite: `PostgresStates`, and `MemoryStates` for fast tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from actors.errors import Unavailable
from eventstore.records import NewRecord
from rayfold.aggregate import AggregateType


class StatesUnavailable(Unavailable):
    """Postgres, which holds the states, does not answer; otherwise as for `Unavailable`."""


class StatesRefused(Exception):
    """Postgres can never accept what was to be written, as the message says. Nothing was
    written.
    """


class KeptCommand(NamedTuple):
    """A command that an aggregate has seen: its number in order of arrival, and `Seen`'s fields."""

    number: int
    command_id: str
    fingerprint: str
    revision: int
    at: float


class Kept(NamedTuple):
    """An aggregate as it is stored.

    `began` is the first revision of the stream since it was last deleted. `outbox` has the events
    not known to be on the log, with their revisions. If it is not `current`, it was written for
    another layout of the state, or for a model that accepted more, and `state` is None.
    """

    state: Any
    version: int
    began: int
    commands: list[KeptCommand]
    outbox: list[tuple[int, NewRecord]]
    current: bool
    misfit: str = ""
    """Why a row of this layout is not a valid state: the model accepts less than it did."""


@dataclass(slots=True)
class Change:
    """What is to be written for one aggregate if it is still stored at `expected`.

    `expected` is -1 if nothing is stored. In that case, and if `whole`, all rows are written,
    otherwise only the differences from `before`; `whole` also replaces the commands.
    `forget_up_to`: commands up to that number are removed.
    """

    aggregate: AggregateType
    stream: str
    expected: int
    version: int
    began: int
    before: Any
    state: Any
    records: Sequence[NewRecord] = ()
    commands: Sequence[KeptCommand] = ()
    forget_up_to: int = -1
    whole: bool = False
    empties_outbox: bool = False
    """Whether the outbox is discarded: the log has other events in its place."""

    @property
    def aggregate_id(self) -> str:
        """The stream's name after its category."""
        return self.stream[len(self.aggregate.category) + 1 :]


class States(Protocol):
    """The store of states."""

    async def prepare(self, aggregates: Sequence[AggregateType]) -> None:
        """Check that the store can hold the states of these aggregates as they are declared.

        Raises:
            StatesUnavailable: no answer.
            WriteSideError: the tables have another layout; the message, one line, says what to do.
        """
        ...

    async def load(self, aggregate: AggregateType, stream: str) -> Kept | None:
        """Return what is stored for an aggregate, as of one moment; None if nothing is.

        Raises:
            StatesUnavailable: no answer.
        """
        ...

    async def commit(self, changes: Sequence[Change], relayed: dict[str, int]) -> list[bool]:
        """Write the changes, each atomically; return for each whether it was written.

        The same transaction removes relayed events from outboxes, by stream up to a revision.

        Raises:
            StatesUnavailable: no answer; any of the changes may have been written.
            StatesRefused: one of the changes can never be written; none was.
        """
        ...

    async def remove(self, aggregate: AggregateType, stream: str, expected: int) -> bool:
        """Remove an aggregate if it is stored at that version; return whether it was.

        Raises:
            StatesUnavailable: no answer; it may have been removed.
        """
        ...

    async def waiting(
        self, categories: list[str], older_than: float, after: str, limit: int
    ) -> list[str]:
        """Return streams of these categories with outbox events at least that many seconds old.

        Streams that follow `after`, in order; "" is before all.

        Raises:
            StatesUnavailable: no answer.
        """
        ...

    async def ids(self, aggregate: AggregateType, after: str, limit: int) -> list[str]:
        """Return stored ids of a class that follow `after`, in order; "" is before all.

        Raises:
            StatesUnavailable: no answer.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...
