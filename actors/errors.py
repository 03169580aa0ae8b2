"""Errors that a command can meet besides its aggregate's rules.

All of them travel between processes, so each passes every argument on to `Exception`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rayfold import RayfoldError
from rayfold.passed_over import Path

NAMED = 5
"""Fields that one text names, at most."""


class WriteSideError(RayfoldError):
    """The root of the write side's errors."""


class RevisionMismatch(WriteSideError):
    """The command asked for a revision at which the aggregate is not; nothing was appended."""

    def __init__(self, expected: int, actual: int | None) -> None:
        super().__init__(expected, actual)
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        at = "does not exist" if self.actual is None else f"is at revision {self.actual}"
        return f"the aggregate {at}, not at revision {self.expected}"


class KeyReused(WriteSideError):
    """The command id stands for another command already; nothing was appended."""

    def __init__(self, command_id: str) -> None:
        super().__init__(command_id)
        self.command_id = command_id

    def __str__(self) -> str:
        return f"command id {self.command_id} was used before, for something else"


class InvalidCommand(WriteSideError):
    """No command of the domain has that name, or its payload does not fit; `field` names where.

    Or what it led to has a value that the tables of a state-stored aggregate cannot hold.
    """

    def __init__(self, detail: str, field: str = "") -> None:
        super().__init__(detail, field)
        self.detail = detail
        self.field = field

    def __str__(self) -> str:
        return self.detail


class Overloaded(WriteSideError):
    """Too many commands wait already: this one was refused at once, and nothing was done.

    `retry_after` is in seconds.
    """

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return "too many commands wait already; nothing was done"


class Unavailable(WriteSideError):
    """No answer from the writer or the store, so the command may or may not have been done.

    It is safe to send it again with the same command id: what was done is not done twice.
    """

    unread: Sequence[Path] = ()
    """Fields of the command that its writer does not have, being of another release; nothing was
    done. No argument: a gateway of a release before makes the error again without knowing of it.
    """

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail, retry_after)
        self.detail = detail
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.detail

    @classmethod
    def not_reading(cls, command: str, unread: Sequence[Path]) -> Unavailable:
        """Return one that says which fields of a command its writer does not have."""
        names = sorted({str(each[0]) for each in unread})  # below may be keys, which are data
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        refused = cls(
            f"this writer does not know all of {', '.join(names[:NAMED])}{more} of {command!r} yet"
        )
        refused.unread = unread
        return refused


class EventStoreUnavailable(Unavailable):
    """The event store does not answer, or does not write; the rest is as for `Unavailable`."""

    @classmethod
    def because(cls, error: Exception) -> EventStoreUnavailable:
        """Return one that says how it does not answer."""
        return cls(f"the event store does not answer: {error}")


class StaleTable(WriteSideError):
    """The caller's table of hosts is older than one that the host has seen; nothing was done.

    `term` is the epoch and version of that one. Never seen by clients: it is sent again.
    """

    def __init__(self, term: tuple[int, int]) -> None:
        super().__init__(term)
        self.term = term


class NoRoom(Overloaded):
    """All actors of one aggregate each are in use, so that there is none for another; see the
    setting `dedicated_actors`. Nothing was done.
    """

    def __str__(self) -> str:
        return "all actors of one aggregate each are in use; nothing was done"


class NeedsOwnActor(WriteSideError):
    """Not refused, or the aggregate is there: its own actor must decide; nothing was done.

    The outcome of `Envelope.only_refuse`. Never seen by clients: it is sent to that actor.
    """


class StreamUnreadable(WriteSideError):
    """The aggregate's past cannot be folded; the detail names event type, stream, revision."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class AggregateDeleted(WriteSideError):
    """The aggregate's stream is tombstoned: its id can never be used again; nothing was appended.

    Over HTTP 410. A stream that is only soft-deleted takes commands, as if there never was one.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"{self.stream} was deleted for good; its id cannot be used again"


class DecisionFailed(WriteSideError):
    """The domain's own code broke on this command; nothing was appended."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NoSuchProcess(WriteSideError):
    """No process of that name and key is there, or is in the `state` that was asked for."""

    def __init__(self, name: str, key: str | None = None, state: str = "there") -> None:
        super().__init__(name, key, state)
        self.name = name
        self.key = key
        self.state = state

    def __str__(self) -> str:
        if self.key is None:
            return f"no process manager is named {self.name!r}"
        return f"no process {self.name!r} of key {self.key!r} is {self.state}"


class ProcessStuck(WriteSideError):
    """A process cannot do what an operator wants, and says why; nothing was recorded."""

    def __init__(self, name: str, key: str, reason: str) -> None:
        super().__init__(name, key, reason)
        self.name = name
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"process {self.name!r} of key {self.key!r}: {self.reason}"


class NoSuchSchedule(WriteSideError):
    """No command was scheduled under that id."""

    def __init__(self, command_id: str) -> None:
        super().__init__(command_id)
        self.command_id = command_id

    def __str__(self) -> str:
        return f"no command was scheduled under the id {self.command_id}"


class TooLate(WriteSideError):
    """A scheduled command cannot be cancelled any more: it is being sent, or was."""

    def __init__(self, command_id: str) -> None:
        super().__init__(command_id)
        self.command_id = command_id

    def __str__(self) -> str:
        return f"command {self.command_id} is being sent, or was"


class BadScale(WriteSideError):
    """There cannot be so many write hosts."""
