"""Errors of the read side."""

from __future__ import annotations

import asyncpg
from pydantic import ValidationError

from rayfold import RayfoldError
from rayfold.runtime.postgres import why


def named(error: BaseException) -> str:
    """Return the error for operators: of Postgres and of a model, without values."""
    said = str(error)
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | TimeoutError):
        said = why(error)
    elif isinstance(error, ValidationError):
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        places = [".".join(map(str, (error.title, *each["loc"]))) for each in wrong]
        said = "; ".join(
            f"{place}: {each['msg']}" for place, each in zip(places, wrong, strict=True)
        )
    return f"{type(error).__name__}: {said}"


class ProjectionError(RayfoldError):
    """The root of the read side's errors."""


class Behind(ProjectionError):
    """The view has not reached the position that the reader wants to see, within its deadline."""

    def __init__(self, view: str, position: int, wanted: int) -> None:
        super().__init__(view, position, wanted)
        self.view = view
        self.position = position
        self.wanted = wanted

    def __str__(self) -> str:
        return f"view {self.view!r} is at position {self.position}, not yet at {self.wanted}"


class ActorUnavailable(ProjectionError):
    """An actor of the read side does not answer, or failed to do what it was asked."""


class WrongStack(ActorUnavailable):
    """An actor has reached a log or a database of another stack, and does nothing there."""


class WouldPark(ProjectionError):
    """A new generation has parked keys that the live one serves; the live one stays.

    Fix the code that failed, or accept the parked keys explicitly.
    """


class ReplicaUnavailable(ProjectionError):
    """No memory replica of the view answers."""


class ReadStoreUnavailable(ProjectionError):
    """A store that keeps views does not answer, or cannot keep them."""


class PostgresUnavailable(ReadStoreUnavailable):
    """Postgres does not answer."""


class BeingBuilt(ReadStoreUnavailable):
    """The store lacks rows of the view, which are being built: ask again."""


class NoSuchStore(ProjectionError):
    """The view is not in the store that was asked for."""


class BadCursor(ProjectionError):
    """The cursor does not come from a page of this query."""


class UnknownTarget(ProjectionError):
    """There is nothing of that name to scale, rebuild or delete, or the number is not possible."""


class NoSuchPublication(ProjectionError):
    """No publication of that name runs, or nothing of it is parked under that key."""


class Fenced(ProjectionError):
    """Another projector has moved the checkpoint: this one must not write."""


class NotInTime(ProjectionError):
    """One event alone has no answer in the time that a statement may take: it is tried again."""

    def __init__(self, stream: str, revision: int, reason: str) -> None:
        super().__init__(stream, revision, reason)
        self.stream = stream
        self.revision = revision
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.revision}@{self.stream} takes longer than it may, alone: {self.reason}"


class BadQuery(ProjectionError):
    """A query has values that no store can have, or that its SQL statement does not take."""


class PastCut(ProjectionError):
    """The first events of an aggregate are gone from the log, so an earlier state is unknown."""


class QueryFailed(ProjectionError):
    """A query of the domain is wrong, in its SQL or its handler; its author has to fix it."""
