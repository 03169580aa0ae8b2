"""Which aggregate's own actor gives way to another, when all places are taken.

Who names ids that nobody else uses gets actors that are used once. They go before any that is
used again and again, and a tenant's go before those of a tenant with fewer: so neither a client
nor a tenant takes from others what these use, whatever ids it makes up.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any, NamedTuple

from actors.host.usage import LAPSE

ARRIVAL = 2.0
"""Seconds in which the command comes that an actor was made for."""


class Place(NamedTuple):
    """An actor, as it has said of itself.

    In seconds: `idle`, 0 where it has something to do, or is about to; and `steady`, for how long
    it has been in use without a lapse until now.
    """

    stream: str
    tenant: str
    answered: bool
    idle: float
    steady: float

    @classmethod
    def of(cls, stream: str, tenant: str, status: dict[str, Any]) -> Place:
        """Return it by its status."""
        if not status["ready"]:
            return cls(stream, tenant, False, 0.0, 0.0)
        # An actor of a release before does not say all of it.
        idle, steady = status.get("idle", 0.0), status.get("steadily", 0.0)
        if steady is None and idle < ARRIVAL:
            idle = 0.0
        return cls(stream, tenant, True, idle, 0.0 if idle > LAPSE else steady or 0.0)

    @property
    def busy(self) -> bool:
        """Tell whether it has something to do, or is about to."""
        return self.idle == 0


def giving_way(places: list[Place], newcomer: str) -> list[Place]:
    """Return those that may go for a tenant's newcomer, first those that go first.

    They are of the tenants that have more than the newcomer's, and of its own. Its own that are in
    use stay where another tenant has more; else they go by how long they have been in use, and
    none before one that was in use for less and is busy just now. Busy ones go at last, and only
    of tenants that have more than one more.
    """
    have = Counter(place.tenant for place in places)
    mine = have[newcomer]
    own = [place for place in places if place.tenant == newcomer]
    larger = [place for place in places if have[place.tenant] > mine]
    least = 0.0 if larger else min((place.steady for place in own if place.busy), default=inf)
    may_go = [*larger, *(place for place in own if place.steady <= least)]
    busy = [place for place in larger if place.busy and have[place.tenant] > mine + 1]

    def rank(place: Place) -> tuple[bool, int, float, float]:
        return place.steady > 0, -have[place.tenant], place.steady, -place.idle

    idle = sorted((place for place in may_go if not place.busy), key=rank)
    return idle + sorted((place for place in busy if place.answered), key=rank)
