"""Which dedicated actor is ended for another one when all places are taken."""

from __future__ import annotations

from typing import Any

import pytest

from actors.host.usage import LAPSE, Usage
from actors.placement.giving_way import ARRIVAL, Place, giving_way


def place(name: str, idle: float = 1.0, steady: float = 0.0, *, answered: bool = True) -> Place:
    """Return a place of the tenant that the name begins with."""
    return Place(name, name.partition("-")[0], answered, idle, steady)


def going(places: list[Place], newcomer: str = "") -> list[str]:
    return [each.stream for each in giving_way(places, newcomer)]


def test_an_actor_used_once_is_ended_before_one_that_is_used_steadily() -> None:
    steady, once, long_ago = place("-a", 0.5, 60.0), place("-b", 0.1), place("-c", 30.0)
    assert going([steady, once, long_ago]) == ["-c", "-b", "-a"]


@pytest.mark.parametrize(
    "other",
    [place("-new", 0.0, answered=False), place("-busy", 0.0, 2.0)],
    ids=["coming up", "busy for a moment"],
)
def test_an_actor_in_use_stays_while_another_will_soon_be_idle(other: Place) -> None:
    assert going([place("-steady", 0.5, 60.0), other]) == []
    assert going([place("-steady", 0.5, 60.0), place("-once"), other]) == ["-once"]


def test_of_many_actors_in_use_the_one_used_for_the_shortest_time_is_ended() -> None:
    places = [place(f"-{steady}", 0.5, float(steady)) for steady in (30, 10, 20)]
    assert going(places) == ["-10", "-20", "-30"]
    assert going([*places, place("-busy", 0.0, 15.0)]) == ["-10"]


def test_the_tenant_with_the_most_places_loses_one_first() -> None:
    names = ["b-1", "b-2", "c-1", "c-2", "c-3"]
    places = [place("a-1", 50.0), *map(place, names)]
    assert going(places, "new") == ["c-1", "c-2", "c-3", "b-1", "b-2", "a-1"]


def test_a_tenant_takes_no_place_from_one_with_as_few() -> None:
    places = [place("a-1", 50.0), place("b-1", 5.0), place("c-1"), place("c-2")]
    assert going(places, "c") == ["c-1", "c-2"]
    assert going(places, "a") == ["c-1", "c-2", "a-1"]


def test_actors_that_a_tenant_uses_stay_while_another_tenant_has_more() -> None:
    mine = [place("a-1", 0.5, 60.0), place("a-2", 5.0)]
    theirs = [place(f"b-{n}", 0.0, answered=False) for n in "123"]
    assert going([*mine, *theirs], "a") == ["a-2"]


def test_busy_actors_are_ended_last_and_only_those_of_a_tenant_above_its_share() -> None:
    busy = [place("b-1", 0.0, 9.0), place("b-2", 0.0, 3.0)]
    assert going(busy, "a") == ["b-2", "b-1"]
    assert going([*busy, place("a-1", 0.5, 1.0)], "a") == []
    assert going(busy, "b") == []
    assert going([place("b-1", 0.0, answered=False)] * 2, "a") == []


@pytest.mark.parametrize(
    ("status", "idle", "steady"),
    [
        ({"ready": False, "error": "ActorUnavailableError"}, 0.0, 0.0),
        ({"ready": True, "idle": 3.0, "steadily": 40.0}, 3.0, 40.0),
        ({"ready": True, "idle": LAPSE + 1, "steadily": 40.0}, LAPSE + 1, 0.0),
        ({"ready": True, "idle": ARRIVAL / 2, "steadily": None}, 0.0, 0.0),
        ({"ready": True, "idle": ARRIVAL * 2, "steadily": None}, ARRIVAL * 2, 0.0),
        ({"ready": True, "idle": 3.0}, 3.0, 0.0),
    ],
    ids=["silent", "in use", "lapsed", "just made", "made in vain", "of a release before"],
)
def test_a_place_is_made_from_the_status_of_its_actor(
    status: dict[str, Any], idle: float, steady: float
) -> None:
    assert Place.of("a-1", "a", status) == Place("a-1", "a", status["ready"], idle, steady)


def test_an_actor_counts_as_used_steadily_until_there_is_a_pause() -> None:
    usage = Usage(100.0)
    assert (usage.idle(103.0), usage.steadily) == (3.0, None)
    for now in (104.0, 109.0, 109.0 + LAPSE):
        usage.used(now)
    assert (usage.idle(121.0), usage.steadily) == (2.0, 5.0 + LAPSE)
    usage.used(119.1 + LAPSE)
    assert usage.steadily == 0.0


def test_the_rate_of_an_actor_is_of_the_last_ten_whole_seconds() -> None:
    usage = Usage(100.0)
    assert usage.per_second(100.0) == 0.0
    for now, commands in ((100.2, 30), (100.9, 20), (105.5, 50)):
        usage.used(now, commands)
    assert [usage.per_second(now) for now in (105.9, 106.0, 110.9, 111.0, 116.0)] == [
        5.0, 10.0, 10.0, 5.0, 0.0,
    ]  # fmt: skip
