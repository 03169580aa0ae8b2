"""What is asked of the place where states are kept, and what it may be relied on for.

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
    """Postgres, which has the states, does not answer; the rest is as for `Unavailable`."""


class StatesRefused(Exception):
    """Postgres will never take what was to be written: the message says why. Nothing was."""


class KeptCommand(NamedTuple):
    """A command that an aggregate has seen: its number among all of them, and `Seen`'s fields."""

    number: int
    command_id: str
    fingerprint: str
    revision: int
    at: float


class Kept(NamedTuple):
    """An aggregate as it is kept.

    `began` is the first revision of this life of its stream. `outbox` has what is not known to be
    on the log, by revision. Where it is not `current`, it was written for another layout of the
    state, or for a model that took more, and `state` is None.
    """

    state: Any
    version: int
    began: int
    commands: list[KeptCommand]
    outbox: list[tuple[int, NewRecord]]
    current: bool
    misfit: str = ""
    """Why a row of this layout is no state: the model takes less than it did."""


@dataclass(slots=True)
class Change:
    """What is to be written of one aggregate, if it is kept at `expected` still.

    `expected` is -1 if nothing is kept; then, and where `whole`, all of it is written, else what
    differs from `before`; `whole` replaces the commands as well. `forget_up_to`: commands up to
    that number are forgotten.
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
    """Whether nothing that is in the outbox will be on the log: the log went another way."""

    @property
    def aggregate_id(self) -> str:
        """The stream's name behind the category."""
        return self.stream[len(self.aggregate.category) + 1 :]


class States(Protocol):
    """Where states are kept."""

    async def prepare(self, aggregates: Sequence[AggregateType]) -> None:
        """Check that the store can keep the states of these aggregates as they are declared.

        Raises:
            StatesUnavailable: no answer.
            WriteSideError: the tables are of another layout; one line says what to do.
        """
        ...

    async def load(self, aggregate: AggregateType, stream: str) -> Kept | None:
        """Return what is kept of an aggregate, as of one moment; None if nothing is.

        Raises:
            StatesUnavailable: no answer.
        """
        ...

    async def commit(self, changes: Sequence[Change], relayed: dict[str, int]) -> list[bool]:
        """Write the changes, each whole or not at all; return which of them were.

        With them goes from the outbox what was relayed, by stream up to a revision.

        Raises:
            StatesUnavailable: no answer; any of them may have been written.
            StatesRefused: one of them can never be written, and none was.
        """
        ...

    async def remove(self, aggregate: AggregateType, stream: str, expected: int) -> bool:
        """Keep nothing of an aggregate, if it is kept at that version; return whether it was.

        Raises:
            StatesUnavailable: no answer; it may be gone.
        """
        ...

    async def waiting(
        self, categories: list[str], older_than: float, after: str, limit: int
    ) -> list[str]:
        """Return streams of these categories whose outbox has something so many seconds old.

        Those behind `after`, in order; "" is before all.

        Raises:
            StatesUnavailable: no answer.
        """
        ...

    async def ids(self, aggregate: AggregateType, after: str, limit: int) -> list[str]:
        """Return ids behind `after` of what is kept of a class, in order; "" is before all.

        Raises:
            StatesUnavailable: no answer.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
