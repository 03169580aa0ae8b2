"""What a new generation parks that the live one does not."""

from __future__ import annotations

import pytest

from projections.newly_parked import Comparison, NewlyParked, would_park
from projections.poison import Parked


def parked(key: str, position: int, stream: str = "room-1") -> Parked:
    return Parked("rooms", key, stream, position, position, "ValueError: no")


def compared(built: list[Parked], live: list[Parked], position: int = 9) -> NewlyParked | None:
    comparison = Comparison(position)
    for each in live:
        comparison.live(each)
    for each in built:
        comparison.built(each)
    return comparison.newly_parked


@pytest.mark.parametrize(
    ("live", "new"),
    [
        ([], ["a", "b"]),
        ([parked("a", 1)], ["b"]),  # further on: it serves what it has served
        ([parked("a", 4)], ["a", "b"]),  # it served an event more
        ([parked("a", 3), parked("b", 4)], []),
        ([parked("", 2)], []),  # all of the stream waited
        ([parked("", 4)], ["a"]),
        ([parked("", 2, "room-2")], ["a", "b"]),
    ],
)
def test_parked_keys_that_the_live_generation_serves_are_new(
    live: list[Parked], new: list[str]
) -> None:
    built = [parked("b", 4), parked("a", 3)]
    found = compared(built, live)
    assert (found and (found.number, found.first.key)) == ((len(new), new[0]) if new else None)


def test_parked_keys_beyond_the_position_of_the_live_generation_are_not_new() -> None:
    assert compared([parked("a", 5)], [], position=4) is None


def test_a_stream_that_is_parked_as_a_whole_is_new_though_a_row_of_it_was_parked() -> None:
    assert compared([parked("", 5)], [parked("a", 3)]) == (1, parked("", 5))


def test_the_first_of_them_is_reported() -> None:
    assert str(would_park("rooms", "redis", NewlyParked(2, parked("a", 3)))) == (
        "of 'rooms' in redis 2 keys that serve would be parked, the first a at 3@room-1:"
        " ValueError: no"
    )
