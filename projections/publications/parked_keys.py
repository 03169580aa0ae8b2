"""What is parked of a publication, for whoever asks: a page, or what is under some names.

It may be as much as there are keys: a receiver may take nothing for days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Any

from projections.publications.records import Parked

Place = tuple[int, str, str]
"""Position, key and stream: where a key stands in the list."""

BEFORE_ALL: Place = (-1, "", "")


def page(parked: Mapping[str, Parked], after: Sequence[Any], limit: int) -> list[dict[str, Any]]:
    """Return at most so many of what stands behind a place, the first in the log first."""
    least = tuple(after)
    found = (each for each in parked.values() if _place(each) > least)
    return [_plain(each) for each in nsmallest(limit, found, key=_place)]


def under(parked: Mapping[str, Parked], lanes: Iterable[str]) -> list[dict[str, Any]]:
    """Return what is parked in these lanes."""
    return [_plain(parked[lane]) for lane in lanes if lane in parked]


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
