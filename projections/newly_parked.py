"""What a new generation has parked, and the one in service has not: keys that would serve no more.

A row that is parked at the same event in both, or further on than before, serves no less.
"""

from __future__ import annotations

from collections.abc import Sequence

from projections.errors import WouldPark
from projections.poison import Parked
from projections.stores.port import Standing
from rayfold.keys import printable


def newly_parked(built: Sequence[Parked], live: Standing) -> list[Parked]:
    """Return it, in the log's order.

    At events that stand later than all of the live one has come to, that one may be about to park
    them too.
    """
    until = live.position + 1
    rows = {each.key: each.position for each in live.parked if each.key}
    streams = {each.stream: each.position for each in live.parked if not each.key}
    new = [
        each
        for each in built
        if each.position < min(until, rows.get(each.key, until), streams.get(each.stream, until))
    ]
    return sorted(new, key=lambda each: (each.position, each.key))


def would_park(view: str, store: str, new: Sequence[Parked]) -> WouldPark:
    """Return the error that says so to operators; `new` is not empty."""
    first = new[0]
    what = printable(first.key) or "the whole stream"
    keys = "one key that serves" if len(new) == 1 else f"{len(new):,} keys that serve"
    return WouldPark(
        f"of {view!r} in {store} {keys} would be parked, the first {what} at"
        f" {first.revision}@{first.stream}: {' '.join(first.error.split())}"
    )
