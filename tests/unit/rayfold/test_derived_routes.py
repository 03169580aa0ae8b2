"""Routes that the gateway adds to a domain's own: no other may have their paths."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType

import pytest

from rayfold import (
    Aggregate,
    Command,
    DomainError,
    Event,
    Message,
    Query,
    Registry,
    Route,
    View,
    on,
)
from rayfold.derived_routes import aggregate_of, derived


class Mark(Command, name="mark"):
    place: str


class Marked(Event, name="Marked"):
    place: str


class Place(
    Aggregate[Message, Mark, Marked], category="place", id_field="place", initial=Message()
):
    @staticmethod
    def decide(state: Message, command: Mark) -> Iterable[Marked]:
        return [Marked(place=command.place)]

    @staticmethod
    def evolve(state: Message, event: Marked) -> Message:
        return state


class Places(View, name="places", key="place"):
    place: str

    @staticmethod
    @on(Marked)
    def marked(row: Places, event: Marked) -> Places:
        return row


class Stored(Places, name="stored", key="place", stores=("postgres",)):
    """Nobody follows its rows live."""


class Neighbours(View, name="neighbours", key="place"):
    place: str

    @staticmethod
    @on(Marked, key=lambda event: [event.place, f"beside {event.place}"])
    def marked(row: Neighbours, event: Marked) -> Neighbours:
        return row


class GetPlace(Query, name="get-place", view=Places):
    place: str


class GetStored(Query, name="get-stored", view=Stored):
    place: str


class GetNeighbour(Query, name="get-neighbour", view=Neighbours):
    place: str


def load(*routes: Route) -> Registry:
    with_routes = ModuleType("routes")
    with_routes.ROUTES = [*routes]  # type: ignore[attr-defined]
    return Registry([sys.modules[__name__], with_routes])


@pytest.mark.parametrize("path", ["/places/{place}/history", "/places/{place}/live"])
def test_a_domains_own_route_at_that_path_is_refused(path: str) -> None:
    with pytest.raises(DomainError, match=f"the route GET {path} is the gateway's own"):
        load(Route("GET", "/places/{place}", GetPlace), Route("GET", path, GetStored))


def test_paths_that_the_gateway_does_not_add_are_free() -> None:
    routes = [
        Route("GET", "/places/{place}", GetStored),
        Route("GET", "/places/{place}/live", GetPlace),
        Route("POST", "/places/{place}/history", Mark),
        Route("GET", "/marks/{place}", GetPlace, history=False),
        Route("GET", "/marks/{place}/history", GetStored),
    ]
    assert load(*routes).routes == routes


def test_a_row_with_events_of_other_aggregates_has_no_history() -> None:
    """Its own stream has only some of the events; a replica has them all."""
    own = Route("GET", "/places/{place}", GetPlace)
    reached = Route("GET", "/neighbours/{place}", GetNeighbour)
    registry = load(own, reached)
    assert aggregate_of(registry, own) is Place
    assert aggregate_of(registry, reached) is None
    assert derived(registry, reached) == [f"{reached.shape}/live"]
