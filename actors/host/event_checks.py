"""What an author's `decide` may not yield: events that belong elsewhere, or too many.

They are refused before the append, as what is on the log is there for good. That each reads back
as it was written, `EventDefinition.encode` sees to.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from rayfold import Command, Event
from rayfold.registry import AggregateType

MAX_EVENTS = 20_000
"""Of one command. More is a loop without end, which would take the host with it."""


class InvalidEvent(Exception):
    """An event that may not be appended; the message says which, and why."""


def check_events(events: Sequence[Event], aggregate: AggregateType, command: Command) -> None:
    """Check that the events are the aggregate's own, and of the instance that was commanded.

    Raises:
        InvalidEvent: one of them is not; or there are more than `MAX_EVENTS`.
    """
    if len(events) > MAX_EVENTS:
        raise InvalidEvent(f"decide yields more than {MAX_EVENTS} events")
    field = aggregate.id_field
    wanted = getattr(command, field)
    for event in events:
        if type(event) not in _declared(aggregate):
            raise InvalidEvent(
                f"decide yields a {type(event).__qualname__}, which is not among the events of "
                f"{aggregate.__qualname__}"
            )
        found = getattr(event, field)
        if found != wanted and aggregate.stream(found) != aggregate.stream(wanted):
            raise InvalidEvent(
                f"{type(event).__qualname__}.{field} is {str(found)!r}, another aggregate's id: "
                f"the command is for {str(wanted)!r}"
            )


@cache
def _declared(aggregate: AggregateType) -> frozenset[type[Event]]:
    return frozenset(aggregate.events)
