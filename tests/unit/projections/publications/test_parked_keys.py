"""What is parked of a publication, page by page, while lanes come and go."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from projections.publications import parked_keys
from projections.publications.parked_keys import BEFORE_ALL, ParkedKeys, place_of
from projections.publications.records import Parked


def parked(key: str, position: int) -> Parked:
    return Parked(key, f"order-{position}", 0, position, "no", "")


@pytest.mark.parametrize("few", [5, 100])
@pytest.mark.parametrize("limit", [0, 1, 7, 1000])
def test_pages_list_everything_once_in_the_logs_order(
    monkeypatch: pytest.MonkeyPatch, limit: int, few: int
) -> None:
    monkeypatch.setattr(parked_keys, "FEW", few)
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
    """A position that counts what it is compared with, and how often it is hashed."""

    touched: ClassVar[int] = 0

    def __eq__(self, other: object) -> bool:
        Counting.touched += 1
        return int(self) == other

    def __hash__(self) -> int:
        Counting.touched += 1
        return hash(int(self))


class Places(list[Any]):
    """Places that nobody goes through from the beginning."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("all parked keys were read")


class Many(ParkedKeys):
    """Very much that is parked: a page, and a key that is released, cost what they are."""

    def __init__(self) -> None:
        super().__init__(parked(f"{n}", Counting(n)) for n in range(10_000))
        self._places = Places(self._places)
        Counting.touched = 0

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("all parked keys were read")

    def items(self) -> Any:
        return [*self]


def test_a_page_does_not_read_all_parked_keys() -> None:
    keys = Many()
    assert [each["position"] for each in keys.page((4999, "4999", "order-4999"), 2)] == [5000, 5001]
    assert Counting.touched < 100


def test_releasing_a_key_does_not_read_all_parked_keys() -> None:
    keys = Many()
    assert keys.lanes("5000") == ["key 5000"]
    keys.release(["key 5000"])
    assert [each["position"] for each in keys.page((4999, "4999", "order-4999"), 1)] == [5001]
    assert Counting.touched < 200
