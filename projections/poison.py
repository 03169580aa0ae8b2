"""Events that cannot be projected: what is recorded about them, and what they stop.

All kinds of projections do this: keyed folds in every store, custom SQL, competing consumers. A
policy says what an event stops: see `rayfold.OnPoison`.
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
    """The event at which a row stopped. `key` is empty when a whole stream is parked.

    `by_store`: the fold succeeded, but the store rejects the row; other stores may accept it.
    """

    view: str
    key: str
    stream: str
    revision: int
    position: int
    error: str
    by_store: bool = False


class Held(NamedTuple):
    """An event that waits behind a parked one of the same row."""

    view: str
    key: str
    stream: str
    revision: int
    position: int


class Discarded(NamedTuple):
    """An event that an operator has discarded. `key` as in `Parked`."""

    view: str
    key: str
    stream: str
    revision: int


class Place(Protocol):
    """The place of an event in the log: `RawRecord` and `RecordedEvent` have one."""

    @property
    def stream(self) -> str:
        """Its stream."""
        ...

    @property
    def revision(self) -> int:
        """Its revision in the stream."""
        ...

    @property
    def position(self) -> int:
        """Its position in `$all`."""
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
    """Return the entry for an event that failed, and log it for operators."""
    reason = named(error)
    if isinstance(error, UnknownEventType | UnreadableEvent):
        reason = str(error)
    elif not (by_store or isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError)):
        reason += place_of(error)
    parked = Parked(view, key, at.stream, at.revision, at.position, reason, by_store)
    log.error("poison", extra={"policy": str(policy), **parked._asdict()})
    return parked


NAMED = 3
"""Parked events that a status lists; `rayfold parked list` has all."""

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
"""SQLSTATE classes that mean: not these values."""

_STATEMENTS = ("23", "42", "44", "P0")
"""SQLSTATE classes that mean: not this statement."""

_OPERATORS = ("42501", "42P05")
"""Exceptions among these: a missing privilege, and a name that exists in a pooler's session."""


def is_refused(error: BaseException) -> bool:
    """Return whether a store will never accept this row, however often it is tried.

    A lost connection, a full disk or a missing table says nothing about the row.
    """
    if isinstance(error, asyncpg.PostgresError):
        return str(getattr(error, "sqlstate", "")).startswith(_VALUES)
    if isinstance(error, asyncpg.InterfaceError):
        return _is_about_values(error)  # raised before anything was sent
    if isinstance(error, OSError):
        return False  # an untrusted certificate is a ValueError too
    return isinstance(error, ValueError | TypeError | OverflowError)


_TOO_LONG = ("57014", "25P03", "25P04")
"""A statement, an idle transaction, or a transaction took longer than administrators allow."""


def is_too_long(error: BaseException) -> bool:
    """Return whether a smaller batch may succeed.

    That includes our own statement timeout: see `projections.postgres.connections`.
    """
    if isinstance(error, TimeoutError):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        # Outside a statement: we kept the session idle during a long fold.
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
    """Return whether a domain's own statement will always fail."""
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", ""))
        return state.startswith((*_VALUES, *_STATEMENTS)) and state not in _OPERATORS
    return isinstance(error, asyncpg.InterfaceError) and _is_about_values(error)


def _is_about_values(error: asyncpg.InterfaceError) -> bool:
    """Return whether the client could not encode values (not: use the connection string)."""
    return isinstance(error, ValueError) and not isinstance(error, asyncpg.ClientConfigurationError)
