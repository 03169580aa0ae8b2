"""Which dedicated actor is evicted for a new one when all places are taken.

A client that sends commands with made-up ids gets actors that are used once. They are evicted
before any that is used repeatedly, and a tenant's actors before those of a tenant that has fewer.
So neither a client nor a tenant can displace what others use, whatever ids it makes up.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any, NamedTuple

from actors.host.usage import LAPSE

ARRIVAL = 2.0
"""Seconds within which the command arrives for which an actor was started."""


class Place(NamedTuple):
    """An actor's place, by the status that it reported.

    `idle` and `steady` are in seconds. `idle` is 0 if it is working or about to; `steady` is how
    long it has been in steady use until now.
    """

    stream: str
    tenant: str
    answered: bool
    idle: float
    steady: float

    @classmethod
    def of(cls, stream: str, tenant: str, status: dict[str, Any]) -> Place:
        """Return the place of an actor with this status."""
        if not status["ready"]:
            return cls(stream, tenant, False, 0.0, 0.0)
        # An actor of an older release does not report all of it.
        idle, steady = status.get("idle", 0.0), status.get("steadily", 0.0)
        if steady is None and idle < ARRIVAL:
            idle = 0.0
        return cls(stream, tenant, True, idle, 0.0 if idle > LAPSE else steady or 0.0)

    @property
    def busy(self) -> bool:
        """Return whether it is working or about to."""
        return self.idle == 0


def giving_way(places: list[Place], newcomer: str) -> list[Place]:
    """Return the places that may be evicted for a tenant's newcomer, the first candidates first.

    They belong to tenants that have more actors than the newcomer's tenant, or to that tenant
    itself. Its own in steady use are spared if another tenant has more; otherwise only those can go
    that were in steady use no longer than each of its busy ones. Busy actors come last, and only
    those of tenants that have at least two more.
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
