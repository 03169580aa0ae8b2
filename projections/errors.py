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
    """The view has not come as far as the reader wants to see, within its deadline."""

    def __init__(self, view: str, position: int, wanted: int) -> None:
        super().__init__(view, position, wanted)
        self.view = view
        self.position = position
        self.wanted = wanted

    def __str__(self) -> str:
        return f"view {self.view!r} is at position {self.position}, not yet at {self.wanted}"


class ActorUnavailable(ProjectionError):
    """An actor of the read side does not answer, or what it was asked to do broke."""


class WrongStack(ActorUnavailable):
    """An actor reaches a log or a database of another stack: it does nothing there."""


class WouldPark(ProjectionError):
    """A new generation has parked keys that the one in service serves, which goes on.

    Mend what broke, or ask for it all the same.
    """


class ReplicaUnavailable(ProjectionError):
    """No memory replica of the view answers."""


class ReadStoreUnavailable(ProjectionError):
    """A store that keeps views does not answer, or cannot keep them."""


class PostgresUnavailable(ReadStoreUnavailable):
    """Postgres does not answer."""


class BeingBuilt(ReadStoreUnavailable):
    """The store lacks rows of the view, which are folded into it: ask again."""


class NoSuchStore(ProjectionError):
    """The view is not kept in the store that was asked for."""


class BadCursor(ProjectionError):
    """The cursor is none that a page of this query has given out."""


class UnknownTarget(ProjectionError):
    """There is nothing of that name to scale, to rebuild or to delete, or not so many of it."""


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
    """A query was given values that no store has, or that its statement in SQL does not take."""


class PastCut(ProjectionError):
    """The first events of an aggregate are not on the log any more: nobody can say what it was."""


class QueryFailed(ProjectionError):
    """A query of the domain is wrong, in SQL or in its handler: its author has to mend it."""
