"""What a new generation has parked and the live one has not: keys that would no longer be served.

A row that is parked at the same event in both, or further on than before, serves no less.

All that is parked may be as much as there are rows, each with a text of what went wrong: it is
gone through once, and what is kept of it are places. A store that can compare two generations
itself need not do even that.
"""

from __future__ import annotations

from typing import NamedTuple

from projections.errors import WouldPark
from projections.poison import Parked
from rayfold.keys import printable


class NewlyParked(NamedTuple):
    """The keys that a new generation parks and the live one serves: how many, and the first."""

    number: int
    first: Parked


class Comparison:
    """Compares what two generations have parked: first tell it of the live one, then of the new."""

    def __init__(self, position: int) -> None:
        """`position` is how far all of the live one has come, before it was asked what is parked.

        At events that stand later that one may be about to park them too.
        """
        self._until = position + 1
        self._rows: dict[str, int] = {}
        self._streams: dict[str, int] = {}
        self._number = 0
        self._first: Parked | None = None

    def live(self, parked: Parked) -> None:
        """Take in what the live one has parked."""
        places, name = (self._rows, parked.key) if parked.key else (self._streams, parked.stream)
        places[name] = min(parked.position, places.get(name, parked.position))

    def built(self, parked: Parked) -> None:
        """Take in what the built one has parked."""
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
        """What the built one alone has parked; None where that is nothing."""
        return NewlyParked(self._number, self._first) if self._first is not None else None


def would_park(view: str, store: str, new: NewlyParked) -> WouldPark:
    """Return the error that says so to operators."""
    number, first = new
    what = printable(first.key) or "the whole stream"
    keys = "one key that serves" if number == 1 else f"{number:,} keys that serve"
    return WouldPark(
        f"of {view!r} in {store} {keys} would be parked, the first {what} at"
        f" {first.revision}@{first.stream}: {' '.join(first.error.split())}"
    )


def _place(parked: Parked) -> tuple[int, str]:
    return parked.position, parked.key
