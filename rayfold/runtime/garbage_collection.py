"""Settings of the cyclic garbage collector for a process that holds many long-lived objects.

Rows, states and events have no cycles: reference counts free them. Little is left for the
collector, but each of its full runs visits every live object, so its cost grows with the
rows that a replica holds.
"""

from __future__ import annotations

import gc

YOUNG = 50_000
"""Allocations minus deallocations between two runs on the youngest generation; Python's default
is 700."""


def collect_rarely() -> None:
    """Exclude all present objects from collection, and collect the rest seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
