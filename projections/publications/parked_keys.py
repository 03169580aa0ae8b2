"""What is parked of a publication, for whoever asks: a page, or what is under some names.

It may be as much as there are keys: a receiver may take nothing for days.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from projections.publications.records import Parked, lane_of

Place = tuple[int, str, str]
"""Position, key and stream: where a key stands in the list."""

BEFORE_ALL: Place = (-1, "", "")

FEW = 100
"""Places that are taken out one by one; with more, what is left is put together anew sooner."""


class ParkedKeys(dict[str, Parked]):
    """By lane. `park` and `release` alone change it: they keep it in the log's order as well.

    Each of very many pages would go through all of it otherwise.
    """

    def __init__(self, parked: Iterable[Parked] = ()) -> None:
        super().__init__((each.lane, each) for each in parked)
        self._places = sorted(map(_place, self.values()))

    def park(self, parked: Parked) -> None:
        """Take a lane, or where one that is parked is parked now."""
        place, before = _place(parked), self.get(parked.lane)
        self[parked.lane] = parked
        if before is not None:
            if _place(before) == place:
                return
            del self._places[bisect_left(self._places, _place(before))]
        insort(self._places, place)

    def release(self, lanes: Iterable[str]) -> None:
        """Let lanes go, perhaps all."""
        gone = {_place(self.pop(lane)) for lane in lanes}
        if len(gone) > FEW:
            self._places = [each for each in self._places if each not in gone]
            return
        for place in gone:
            del self._places[bisect_left(self._places, place)]

    def lanes(self, key: str) -> list[str]:
        """Return what is parked under a key, or a stream's name."""
        return [lane for lane in (lane_of(key, ""), lane_of("", key)) if lane in self]

    def page(self, after: Sequence[Any], limit: int) -> list[dict[str, Any]]:
        """Return what stands behind a place, at most so many if there is a `limit`."""
        behind = bisect_right(self._places, tuple(after))
        page = self._places[behind : behind + limit if limit else None]
        return [_plain(self[lane_of(key, stream)]) for _, key, stream in page]

    def under(self, lanes: Iterable[str]) -> list[dict[str, Any]]:
        """Return what is parked in these lanes."""
        return [_plain(self[lane]) for lane in lanes if lane in self]


def place_of(listed: Mapping[str, Any]) -> Place:
    """Return where it stands in the list."""
    return listed["position"], listed["key"], listed["stream"]


def _place(parked: Parked) -> Place:
    return parked.position, parked.key, parked.stream


def _plain(parked: Parked) -> dict[str, Any]:
    return {
        "key": parked.key,
        "stream": parked.stream,
        "revision": parked.revision,
        "position": parked.position,
        "error": parked.error,
        "since": parked.at,
    }
