"""What is parked of a publication, page by page, while lanes come and go."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import pytest

from projections.publications.parked_keys import BEFORE_ALL, ParkedKeys, place_of
from projections.publications.records import Parked


def parked(key: str, position: int) -> Parked:
    return Parked(key, f"order-{position}", 0, position, "no", "")


@pytest.mark.parametrize("limit", [0, 1, 7, 1000])
def test_pages_have_everything_once_in_the_logs_order(limit: int) -> None:
    keys, chance = ParkedKeys(parked(f"{at}", at) for at in (5, 3, 4)), random.Random(1)
    for _ in range(30):
        for _ in range(chance.randrange(20)):
            keys.park(parked(f"{chance.randrange(40)}", chance.randrange(20)))
        keys.release(chance.sample([*keys], chance.randrange(len(keys))))
        found: list[Any] = []
        after = BEFORE_ALL
        while page := keys.page([*after], limit):
            assert len(page) <= (limit or len(keys))
            found += page
            after = place_of(found[-1])
        assert [place_of(each) for each in found] == sorted(map(place_of, found))
        assert {each["key"]: each["position"] for each in found} == {
            each.key: each.position for each in keys.values()
        }
        assert len(found) == len(keys)


class Counting(int):
    """A position that counts what it is compared with."""

    compared: ClassVar[int] = 0

    def __eq__(self, other: object) -> bool:
        Counting.compared += 1
        return int(self) == other

    def __hash__(self) -> int:
        return hash(int(self))


def test_a_page_does_not_go_through_all_that_is_parked() -> None:
    keys = ParkedKeys(parked(f"{n}", Counting(n)) for n in range(10_000))
    Counting.compared = 0
    assert [each["position"] for each in keys.page((4999, "4999", "order-4999"), 2)] == [5000, 5001]
    assert Counting.compared < 100
