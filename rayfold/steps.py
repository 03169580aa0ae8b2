"""What the handlers of a process yield: the steps that the runtime carries out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rayfold.integration_event import IntegrationEvent
from rayfold.messages import Command


@dataclass(frozen=True)
class Send:
    """Send a command to its aggregate; a handler's commands are sent in the order yielded.

    A command that is sent again after a crash counts once: its id derives from the process and
    from the event, timeout or refusal that led to it.
    """

    command: Command

    def __post_init__(self) -> None:
        if not isinstance(self.command, Command):
            raise TypeError(f"a process sends commands, not a {type(self.command).__qualname__}")


@dataclass(frozen=True)
class Schedule:
    """Call the process's `@on_timeout(timeout_name)` later; replaces a timeout of that name.

    `after` counts from when the process decides. An instant in the past is due at once.
    """

    timeout_name: str
    after: timedelta | None = None
    at: datetime | None = None

    def __post_init__(self) -> None:
        if (self.after is None) == (self.at is None):
            raise ValueError(f"Schedule({self.timeout_name!r}) needs one of after=… and at=…")
        if self.at is not None and self.at.utcoffset() is None:
            raise ValueError(
                f"Schedule({self.timeout_name!r}, at=…) needs an instant with an offset"
            )

    def due(self, now: datetime) -> datetime:
        """Return when it is due, in UTC; at the latest, the last instant of the year 9999."""
        wanted = self.at if self.at is not None else now
        try:
            return (wanted + (self.after or timedelta())).astimezone(UTC)
        except OverflowError:
            past = wanted.year == 1 or (self.after or timedelta()) < timedelta()
            return (datetime.min if past else datetime.max).replace(tzinfo=UTC)


@dataclass(frozen=True)
class Unschedule:
    """Cancel the timeout of that name, if one is scheduled.

    It needs no handler: a release may remove a timeout's handler, and unschedule the timeout in the
    processes that still wait for it.
    """

    timeout_name: str


@dataclass(frozen=True)
class Publish:
    """Publish an integration event by each `Publication` that carries events of its type."""

    integration_event: IntegrationEvent

    def __post_init__(self) -> None:
        if not isinstance(self.integration_event, IntegrationEvent):
            raise TypeError(
                "a process publishes integration events, not a"
                f" {type(self.integration_event).__qualname__}"
            )


@dataclass(frozen=True)
class Complete:
    """End the process: it receives nothing more, but commands that it sent are still delivered."""


Step = Send | Schedule | Unschedule | Publish | Complete
"""What a process manager's handler may yield."""
