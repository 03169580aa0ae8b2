"""Errors that a command can meet besides its aggregate's rules.

They are all sent between processes, so each passes every argument on to `Exception`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rayfold import RayfoldError
from rayfold.passed_over import Path

NAMED = 5
"""The most fields that one message names."""


class WriteSideError(RayfoldError):
    """The root of the write side's errors."""


class RevisionMismatch(WriteSideError):
    """The command expected another revision of the aggregate; nothing was appended."""

    def __init__(self, expected: int, actual: int | None) -> None:
        super().__init__(expected, actual)
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        at = "does not exist" if self.actual is None else f"is at revision {self.actual}"
        return f"the aggregate {at}, not at revision {self.expected}"


class KeyReused(WriteSideError):
    """The command id was used for another command already; nothing was appended."""

    def __init__(self, command_id: str) -> None:
        super().__init__(command_id)
        self.command_id = command_id

    def __str__(self) -> str:
        return f"command id {self.command_id} was used before, for another command"


class InvalidCommand(WriteSideError):
    """The domain has no command of that name, or its payload is invalid; `field` says where.

    Or the resulting state has a value that the tables of a state-stored aggregate cannot hold.
    """

    def __init__(self, detail: str, field: str = "") -> None:
        super().__init__(detail, field)
        self.detail = detail
        self.field = field

    def __str__(self) -> str:
        return self.detail


class Overloaded(WriteSideError):
    """Too many commands are waiting: this one was refused at once, and nothing was done.

    `retry_after` is in seconds.
    """

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return "too many commands wait already; nothing was done"


class Unavailable(WriteSideError):
    """The writer or the store did not answer, so the command may or may not have been executed.

    It is safe to send it again with the same command id: it is never executed twice.
    """

    unread: Sequence[Path] = ()
    """Fields of the command that its writer, of another release, does not know; nothing was done.
    It is not an argument: a gateway of an older release recreates the error without it.
    """

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail, retry_after)
        self.detail = detail
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.detail

    @classmethod
    def not_reading(cls, command: str, unread: Sequence[Path]) -> Unavailable:
        """Return one that names the command's fields that its writer does not know."""
        # Deeper path parts may be keys, which are data.
        names = sorted({str(each[0]) for each in unread})
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        refused = cls(
            f"this writer does not know all of {', '.join(names[:NAMED])}{more} of {command!r} yet"
        )
        refused.unread = unread
        return refused


class EventStoreUnavailable(Unavailable):
    """The event store does not answer or accept writes; otherwise as for `Unavailable`."""

    @classmethod
    def because(cls, error: Exception) -> EventStoreUnavailable:
        """Return one with the cause in its message."""
        return cls(f"the event store does not answer: {error}")


class StaleTable(WriteSideError):
    """The caller's shard table is older than one that the host has seen; nothing was done.

    `term` is the epoch and version of the newer table. Clients never see this: the command is sent
    again.
    """

    def __init__(self, term: tuple[int, int]) -> None:
        super().__init__(term)
        self.term = term


class NoRoom(Overloaded):
    """All dedicated actors are in use, so there is no room for another; see the setting
    `dedicated_actors`. Nothing was done.
    """

    def __str__(self) -> str:
        return "all dedicated actors are in use; nothing was done"


class NeedsOwnActor(WriteSideError):
    """The command is not refused, or the aggregate exists: its dedicated actor must decide.

    The outcome of `Envelope.only_refuse`; nothing was done. Clients never see this: the command is
    sent to that actor.
    """


class StreamUnreadable(WriteSideError):
    """The aggregate's events cannot be folded; the detail names event type, stream, revision."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class AggregateDeleted(WriteSideError):
    """The aggregate's stream is tombstoned: its id can never be used again; nothing was appended.

    Over HTTP this is 410. A stream that is only soft-deleted accepts commands, as if it had never
    existed.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"{self.stream} was deleted for good; its id cannot be used again"


class DecisionFailed(WriteSideError):
    """The domain's own code failed on this command; nothing was appended."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NoSuchProcess(WriteSideError):
    """No process of that name and key exists, or is in the requested `state`."""

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
    """A process cannot do what an operator requests, and says why; nothing was recorded."""

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
    """A scheduled command can no longer be cancelled: it is being sent, or was."""

    def __init__(self, command_id: str) -> None:
        super().__init__(command_id)
        self.command_id = command_id

    def __str__(self) -> str:
        return f"command {self.command_id} is being sent, or was"


class BadScale(WriteSideError):
    """The requested number of write hosts is not possible."""
