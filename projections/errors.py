"""Errors of the read side."""

from __future__ import annotations

import asyncpg
from pydantic import ValidationError

from rayfold import RayfoldError
from rayfold.runtime.postgres import why


def named(error: BaseException) -> str:
    """Return the error's text for operators; errors of Postgres and of models without values."""
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
    """The view did not reach the position that the reader requires within its deadline."""

    def __init__(self, view: str, position: int, wanted: int) -> None:
        super().__init__(view, position, wanted)
        self.view = view
        self.position = position
        self.wanted = wanted

    def __str__(self) -> str:
        return f"view {self.view!r} is at position {self.position}, not yet at {self.wanted}"


class ActorUnavailable(ProjectionError):
    """An actor of the read side does not answer, or an operation in it failed."""


class WrongStack(ActorUnavailable):
    """An actor is connected to a log or a database of another stack: it does nothing there."""


class WouldPark(ProjectionError):
    """A new generation has parked keys that the live one serves; the live one stays.

    Correct what failed, or ask for the switch all the same.
    """


class ReplicaUnavailable(ProjectionError):
    """No memory replica of the view answers."""


class ReadStoreUnavailable(ProjectionError):
    """A store of views does not answer, or cannot store them."""


class PostgresUnavailable(ReadStoreUnavailable):
    """Postgres does not answer."""


class BeingBuilt(ReadStoreUnavailable):
    """The store lacks rows of the view, which are being folded into it: ask again later."""


class NoSuchStore(ProjectionError):
    """The view is not kept in the requested store."""


class BadCursor(ProjectionError):
    """The cursor is not one that a page of this query has returned."""


class UnknownTarget(ProjectionError):
    """There is nothing of that name to scale, rebuild or delete, or the number is not possible."""


class NoSuchPublication(ProjectionError):
    """No publication of that name runs, or it has nothing parked under that key."""


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
        return f"{self.revision}@{self.stream} takes too long, even alone: {self.reason}"


class BadQuery(ProjectionError):
    """A query has values that no store has, or that its SQL statement does not accept."""


class PastCut(ProjectionError):
    """The first events of an aggregate are no longer on the log: its past state is unknown."""


class QueryFailed(ProjectionError):
    """A query of the domain is wrong, in SQL or in its handler: its author has to correct it."""
