"""State-stored aggregates: decided like any other, and stored as rows that people can read."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from rayfold.aggregate import Aggregate, Storage
from rayfold.messages import Command, Event, Message

S = TypeVar("S", bound=Message)
C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)


class StateStored(Aggregate[S, C, E]):
    """An aggregate whose state is rows in Postgres: `class Customer(StateStored[…, …, …], …)`.

    `decide`, `evolve` and the class keywords are those of `Aggregate`. The state is what `evolve`
    makes of the events, and is written together with them in one transaction. The events are then
    copied from there to the log, so that views, history, live queries and processes work as for any
    aggregate. Loading reads the row, so it does not matter how long the history is or whether it
    was truncated.

    `rayfold.state_layout` says which tables and columns a state becomes. `storage="events"` makes
    this aggregate event-sourced; `storage="state"` makes any other aggregate state-stored.
    """

    default_storage: ClassVar[Storage] = Storage.STATE
