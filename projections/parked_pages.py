"""Filters for parked events, and a page of them.

Events are listed in the log's order. One event may have parked several rows, in several stores,
and there may be as many of them as there are rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from projections.poison import Parked
from rayfold.keys import printable

Place = tuple[int, str, str, str, str]
"""The place of an entry in the list: position, view, key, stream and store."""

BEFORE_ALL: Place = (-1, "", "", "", "")


class Asked(NamedTuple):
    """A request for the entries after a place; of one view, if named, and of one key or stream.

    Without a `limit`, all of them; with names in `among`, those under one of these names.
    """

    view: str = ""
    key: str = ""
    """The key of a row, perhaps as it is displayed; or the name of a stream."""
    after: Place = BEFORE_ALL
    limit: int = 0
    among: frozenset[str] = frozenset()
    """Keys of rows, and names of streams."""

    def of(self, parked: Sequence[Parked]) -> list[Parked]:
        """Return what one part of one store contributes to the page.

        The part's entries are `in_order`, so skipping those before the page costs nothing.

        The first result may be the last entry of the previous page: a part does not know its
        store's name.
        """
        least = tuple(self.after)[:-1]  # a list, after it was sent
        behind = islice(parked, bisect_left(parked, least, key=_place), None)
        found = (each for each in behind if self._wants(each))
        return list(islice(found, self.limit + 1) if self.limit else found)

    def page(self, found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the page from the entries of all parts, each with its `store`."""
        after = tuple(self.after)
        page = sorted((dict(each) for each in found if place_of(each) > after), key=place_of)
        return page[: self.limit] if self.limit else page

    def _wants(self, parked: Parked) -> bool:
        if self.view not in ("", parked.view):
            return False
        if self.among and parked.key not in self.among and parked.stream not in self.among:
            return False
        return self.key in ("", parked.key, printable(parked.key), parked.stream)


EVERYTHING = Asked()


def in_order(parked: Iterable[Parked]) -> list[Parked]:
    """Return the entries in the order of the list."""
    return sorted(parked, key=_place)


def place_of(listed: Mapping[str, Any]) -> Place:
    """Return the entry's place in the list."""
    of = listed["position"], listed["view"], listed["key"], listed["stream"]
    return (*of, listed["store"])


def _place(parked: Parked) -> tuple[int, str, str, str]:
    return parked.position, parked.view, parked.key, parked.stream
