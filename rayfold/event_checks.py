"""Checks of what an author's `decide` yields: events of another aggregate, or too many.

Such events are refused before the append, because the log is permanent.
`EventDefinition.encode` checks that each event reads back as it was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice

from rayfold.aggregate import AggregateType
from rayfold.messages import Command, Event

MAX_EVENTS = 20_000
"""The most events of one command. More is taken for an endless loop, which would kill the host."""


class InvalidEvent(Exception):
    """An event may not be appended; the message says which, and why."""


def listed(given: Iterable[Event] | Event | None) -> list[Event]:
    """Return the result of `decide` as a list.

    Raises:
        InvalidEvent: it is a single event (Python would iterate over its fields), or None, or
            has more than `MAX_EVENTS` events.
    """
    if isinstance(given, Event):
        raise InvalidEvent(f"decide returns a {type(given).__qualname__}: return it in a list")
    if given is None:
        raise InvalidEvent("decide returns None: return an empty list if nothing happens")
    events = list(islice(given, MAX_EVENTS + 1))
    if len(events) > MAX_EVENTS:
        raise InvalidEvent(f"decide yields more than {MAX_EVENTS} events")
    return events


def check_events(events: Sequence[Event], aggregate: AggregateType, command: Command) -> None:
    """Check that the events are the aggregate's own, and have the id of the command's instance.

    Raises:
        InvalidEvent: one of them is not.
    """
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


def decided(events: Iterable[Event], aggregate: AggregateType, command: Command) -> list[Event]:
    """Return a decision's events after the checks that the runtime makes, for tests.

    Raises:
        InvalidEvent: the runtime would refuse an event.
        ValueError: an event would not be read back from the log as it is.
    """
    found = listed(events)
    check_events(found, aggregate, command)
    return written(found)


def written(events: list[Event]) -> list[Event]:
    """Return the events, having checked that each can be written.

    Raises:
        ValueError: an event would not be read back from the log as it is.
    """
    for each in events:
        type(each).__rayfold__.encode(each)
    return events


@cache
def _declared(aggregate: AggregateType) -> frozenset[type[Event]]:
    return frozenset(aggregate.events)
