"""The keys that a new generation has parked and the live one still serves.

A row that is parked at the same event in both, or further on than before, does not count.

There may be as many parked rows as rows, each with an error message. They are read once, and only
their places are kept. A store that can compare two generations itself needs not even that.
"""

from __future__ import annotations

from typing import NamedTuple

from projections.errors import WouldPark
from projections.poison import Parked
from rayfold.keys import printable


class NewlyParked(NamedTuple):
    """The keys that only a new generation has parked: their number, and the first ones."""

    number: int
    first: Parked


class Comparison:
    """Compares what two generations have parked; `live` is called for all of its rows first."""

    def __init__(self, position: int) -> None:
        """`position` is how far the whole live generation had come before its parked rows were
        read.

        The live generation may be about to park at later events, too.
        """
        self._until = position + 1
        self._rows: dict[str, int] = {}
        self._streams: dict[str, int] = {}
        self._number = 0
        self._first: Parked | None = None

    def live(self, parked: Parked) -> None:
        """Add a parked row of the live generation."""
        places, name = (self._rows, parked.key) if parked.key else (self._streams, parked.stream)
        places[name] = min(parked.position, places.get(name, parked.position))

    def built(self, parked: Parked) -> None:
        """Add a parked row of the built generation."""
        rows, streams, until = self._rows, self._streams, self._until
        if parked.position >= min(
            until, rows.get(parked.key, until), streams.get(parked.stream, until)
        ):
            return
        self._number += 1
        if self._first is None or _place(parked) < _place(self._first):
            self._first = parked

    @property
    def newly_parked(self) -> NewlyParked | None:
        """Return what only the built generation has parked; None if nothing."""
        return NewlyParked(self._number, self._first) if self._first is not None else None


def would_park(view: str, store: str, new: NewlyParked) -> WouldPark:
    """Return the error for operators."""
    number, first = new
    what = printable(first.key) or "the whole stream"
    keys = "one key that serves" if number == 1 else f"{number:,} keys that serve"
    return WouldPark(
        f"of {view!r} in {store} {keys} would be parked, the first {what} at"
        f" {first.revision}@{first.stream}: {' '.join(first.error.split())}"
    )


def _place(parked: Parked) -> tuple[int, str]:
    return parked.position, parked.key
