"""Pages of parked events, from parts in several stores."""

from __future__ import annotations

from typing import Any

import pytest

from projections.parked_pages import BEFORE_ALL, Asked, Place, in_order, place_of
from projections.poison import Parked


def parked(view: str, key: str, position: int) -> Parked:
    return Parked(view, key, f"room-{position}", 0, position, "ValueError: no")


ROWS = [parked("rooms", f"r{at}\n", at) for at in (7, 3, 5)]
PARTS = {
    "memory": [*ROWS, parked("guests", "ada", 3)],
    "postgres": [*ROWS, parked("guests", "ada", 3), parked("guests", "", 9)],
}


def page(asked: Asked) -> list[dict[str, Any]]:
    """As operators get it: each part is asked, and travels."""
    return asked.page(
        {"store": store, **each._asdict()}
        for store, kept in PARTS.items()
        for each in Asked(*[*asked[:2], list(asked.after), asked.limit]).of(in_order(kept))
    )


@pytest.mark.parametrize("limit", range(1, 11))
def test_pages_list_everything_once_in_the_logs_order(limit: int) -> None:
    found, after = list[Place](), BEFORE_ALL
    while some := page(Asked(after=after, limit=limit)):
        assert len(some) <= limit
        found += [place_of(each) for each in some]
        after = found[-1]
    assert found == [place_of(each) for each in page(Asked())]
    assert found == sorted(found)
    assert len(found) == sum(map(len, PARTS.values()))


def test_a_part_gives_no_more_than_a_page_needs() -> None:
    assert len(Asked(limit=1).of(in_order(PARTS["postgres"]))) == 2


@pytest.mark.parametrize("key", ["r5\n", "r5\\n", "room-5"])
def test_a_row_is_found_by_its_key_in_either_form_and_by_its_stream(key: str) -> None:
    assert [each["key"] for each in page(Asked("rooms", key))] == ["r5\n", "r5\n"]
    assert page(Asked("guests", key)) == []
