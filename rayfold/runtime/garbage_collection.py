"""The cyclic garbage collector of a process that holds many objects for long.

Rows, states and events have no cycles: reference counts free them. What is left for the
collector is little, but each of its full runs looks at everything that is alive, so its
cost grows with the rows that a replica holds.
"""

from __future__ import annotations

import gc

YOUNG = 50_000
"""Allocations, less deallocations, between two young runs; Python's default is 700."""


def collect_rarely() -> None:
    """Never look again at what is alive now, and seldom at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
