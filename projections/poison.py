"""Events that cannot be projected: their description, and what they stop.

All kinds of projections go this way: keyed folds in every store, custom SQL, competing
consumers. What an event stops is said by a policy: see `rayfold.OnPoison`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import NamedTuple, Protocol

import asyncpg

from projections.errors import NotInTime, named
from rayfold import OnPoison, UnknownEventType, UnreadableEvent
from rayfold.keys import printable
from rayfold.place_of_error import place_of, shortened

log = logging.getLogger(__name__)


class Parked(NamedTuple):
    """Where a projection stopped. `key` is empty when a whole stream is parked.

    `by_store`: the fold went well, but the store does not take the row; other stores may.
    """

    view: str
    key: str
    stream: str
    revision: int
    position: int
    error: str
    by_store: bool = False


class Held(NamedTuple):
    """An event that waits behind a parked one of its row."""

    view: str
    key: str
    stream: str
    revision: int
    position: int


class Discarded(NamedTuple):
    """An event that an operator has decided to do without. `key` as in `Parked`."""

    view: str
    key: str
    stream: str
    revision: int


class Place(Protocol):
    """Where an event stands in the log: `RawRecord` and `RecordedEvent` are such."""

    @property
    def stream(self) -> str:
        """Its stream."""
        ...

    @property
    def revision(self) -> int:
        """Its place in the stream."""
        ...

    @property
    def position(self) -> int:
        """Its place in `$all`."""
        ...


def park(
    policy: OnPoison,
    view: str,
    key: str,
    at: Place,
    error: BaseException,
    *,
    by_store: bool = False,
) -> Parked:
    """Return what is to be kept of an event that broke, and tell operators."""
    reason = named(error)
    if isinstance(error, UnknownEventType | UnreadableEvent):
        reason = str(error)
    elif not (by_store or isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError)):
        reason += place_of(error)
    parked = Parked(view, key, at.stream, at.revision, at.position, reason, by_store)
    log.error("poison", extra={"policy": str(policy), **parked._asdict()})
    return parked


NAMED = 3
"""Parked events that the status of a part names; `rayfold parked list` has all."""

_MOST_TEXT = 200
"""Characters of a key or a reason in a status."""


def in_status(parked: Iterable[Parked]) -> dict[str, list[dict[str, str]]]:
    """Return `poison`, the first parked events by position, for the status of a part."""
    first = nsmallest(NAMED, parked, key=lambda each: (each.position, each.view, each.key))
    told = [
        {
            "view": each.view,
            "key": printable(each.key)[:_MOST_TEXT],
            "event": f"{each.revision}@{each.stream}",
            "reason": shortened(" ".join(each.error.split()), _MOST_TEXT),
        }
        for each in first
    ]
    return {"poison": told} if told else {}


_VALUES = ("21", "22", "54")
"""Classes of SQLSTATEs that say: not these values."""

_STATEMENTS = ("23", "42", "44", "P0")
"""Classes that say: not this statement."""

_OPERATORS = ("42501", "42P05")
"""Of these: a right that is missing, and a name that is taken in a pooler's session."""


def is_refused(error: BaseException) -> bool:
    """Return whether a store does not take this row, however often it is tried.

    A lost connection, a full disk, a table that is gone say nothing about the row.
    """
    if isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "sqlstate", "")).startswith(_VALUES)
    if isinstance(error, asyncpg.InterfaceError):
        return _is_about_values(error)  # found before anything was sent
    if isinstance(error, OSError):
        return False  # a certificate that is not trusted is a ValueError too
    return isinstance(error, ValueError | TypeError | OverflowError)


_TOO_LONG = ("57014", "25P03", "25P04")
"""A statement, a pause within a transaction, a transaction: longer than administrators allow."""


def is_too_long(error: BaseException) -> bool:
    """Return whether less at a time may help.

    Also where there was no answer in the time that we give a statement ourselves: see
    `projections.postgres.connections`.
    """
    if isinstance(error, TimeoutError):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        # Not within a statement: it was we who had the session wait, for a fold of much.
        return "connection is closed" in str(error)
    return str(getattr(error, "sqlstate", "")) in _TOO_LONG


def check_alone(records: Sequence[Place], error: BaseException) -> None:
    """Where there is no less to try than this, say which event it is.

    Raises:
        NotInTime: one event alone takes too long.
    """
    if len(records) == 1 and not isinstance(error, asyncpg.InterfaceError):
        [at] = records
        raise NotInTime(at.stream, at.revision, named(error)) from error


def is_poison(error: BaseException) -> bool:
    """Return whether an author's statement would fail again, however often it is tried."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", ""))
        return state.startswith((*_VALUES, *_STATEMENTS)) and state not in _OPERATORS
    return isinstance(error, asyncpg.InterfaceError) and _is_about_values(error)


def _is_about_values(error: asyncpg.InterfaceError) -> bool:
    """Tell values that the client cannot encode from a connection string that it cannot use."""
    return isinstance(error, ValueError) and not isinstance(error, asyncpg.ClientConfigurationError)
