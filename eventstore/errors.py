"""Errors of the event store."""

from __future__ import annotations

from rayfold.errors import RayfoldError


class StoreError(RayfoldError):
    """The root of the store's errors."""


class StreamTombstoned(StoreError):
    """The stream was deleted for good: it has no events, and never will have any again."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"the stream {self.stream} was deleted for good"


class StoreUnavailable(StoreError):
    """The store does not answer. What was asked may or may not have happened: fold again."""


class NoSuchPosition(StoreUnavailable):
    """The log does not have that position: it was restored to an earlier moment, or it lags."""

    def __str__(self) -> str:
        return (
            "the log does not have the position up to which it was read: it was restored to an"
            " earlier moment, or the node that answers lags behind"
        )


class StoreRefused(StoreUnavailable):
    """The store refuses the connection: wrong password, certificate or connection string."""


def does_not(error: BaseException) -> str:
    """Return what a server does of which this was raised, as words between its name and why."""
    return "cannot be used" if isinstance(error, StoreRefused) else "does not answer"
