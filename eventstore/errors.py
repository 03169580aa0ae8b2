"""Errors of the event store."""

from __future__ import annotations

from rayfold.errors import RayfoldError


class StoreError(RayfoldError):
    """The root of the store's errors."""


class StreamTombstoned(StoreError):
    """The stream was deleted for good: it has no events and can never have any again."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"the stream {self.stream} was deleted for good"


class StoreUnavailable(StoreError):
    """The store does not answer. What was asked may or may not have been done: fold again."""


class NoSuchPosition(StoreUnavailable):
    """The log does not have that position: it was restored to an earlier state, or it lags."""

    def __str__(self) -> str:
        return (
            "the log does not have the position up to which it was read: it was restored to an"
            " earlier moment, or the node that answers lags behind"
        )


class StoreRefused(StoreUnavailable):
    """The store refuses the connection: wrong password, certificate or connection string."""


def does_not(error: BaseException) -> str:
    """Return the words between a server's name and the reason, for this kind of error."""
    return "cannot be used" if isinstance(error, StoreRefused) else "does not answer"
