"""A publication's parked keys: listed by page, or under some names.

There may be as many as keys: a receiver may accept nothing for days.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from projections.publications.records import Parked, lane_of

Place = tuple[int, str, str]
"""The place of an entry in the list: position, key and stream."""

BEFORE_ALL: Place = (-1, "", "")

FEW = 100
"""Places that are removed one by one; for more, the list is rebuilt, which is faster."""


class ParkedKeys(dict[str, Parked]):
    """Parked entries by lane. Change them by `park` and `release`, which keep them in order.

    Otherwise each of very many pages would go through all entries.
    """

    def __init__(self, parked: Iterable[Parked] = ()) -> None:
        super().__init__((each.lane, each) for each in parked)
        self._places = sorted(map(_place, self.values()))

    def park(self, parked: Parked) -> None:
        """Add a lane, or update the event at which it is parked."""
        place, before = _place(parked), self.get(parked.lane)
        self[parked.lane] = parked
        if before is not None:
            if _place(before) == place:
                return
            del self._places[bisect_left(self._places, _place(before))]
        insort(self._places, place)

    def release(self, lanes: Iterable[str]) -> None:
        """Remove lanes, perhaps all."""
        gone = {_place(self.pop(lane)) for lane in lanes}
        if len(gone) > FEW:
            self._places = [each for each in self._places if each not in gone]
            return
        for place in gone:
            del self._places[bisect_left(self._places, place)]

    def lanes(self, key: str) -> list[str]:
        """Return the lanes that are parked under a key or a stream's name."""
        return [lane for lane in (lane_of(key, ""), lane_of("", key)) if lane in self]

    def page(self, after: Sequence[Any], limit: int) -> list[dict[str, Any]]:
        """Return the entries after a place, at most `limit` if there is one."""
        behind = bisect_right(self._places, tuple(after))
        page = self._places[behind : behind + limit if limit else None]
        return [_plain(self[lane_of(key, stream)]) for _, key, stream in page]

    def under(self, lanes: Iterable[str]) -> list[dict[str, Any]]:
        """Return what is parked in these lanes."""
        return [_plain(self[lane]) for lane in lanes if lane in self]


def place_of(listed: Mapping[str, Any]) -> Place:
    """Return an entry's place in the list."""
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
