"""What a new generation parks that the one in service does not."""

from __future__ import annotations

import pytest

from projections.newly_parked import newly_parked, would_park
from projections.poison import Parked
from projections.stores.port import Standing


def parked(key: str, position: int, stream: str = "room-1") -> Parked:
    return Parked("rooms", key, stream, position, position, "ValueError: no")


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
def test_keys_that_the_live_one_serves_are_new(live: list[Parked], new: list[str]) -> None:
    built = [parked("b", 4), parked("a", 3)]
    assert [each.key for each in newly_parked(built, Standing(9, live))] == new


def test_what_the_live_one_may_be_about_to_park_itself_is_not_new() -> None:
    assert newly_parked([parked("a", 5)], Standing(4, [])) == []


def test_a_stream_that_is_parked_as_a_whole_is_new_though_a_row_of_it_was_parked() -> None:
    assert newly_parked([parked("", 5)], Standing(9, [parked("a", 3)])) == [parked("", 5)]


def test_the_first_of_them_is_told() -> None:
    assert str(would_park("rooms", "redis", [parked("a", 3), parked("b", 4)])) == (
        "of 'rooms' in redis 2 keys that serve would be parked, the first a at 3@room-1:"
        " ValueError: no"
    )
