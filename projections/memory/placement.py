"""Which views the memory replicas hold, so that each view is held as often as it should.

Layer n holds the views that are wanted more than n times. Layer 0 holds them all; when
one view is wanted four times, layers 1 to 3 hold that view alone.
"""

from __future__ import annotations

from collections.abc import Mapping


def placement_of(wanted: Mapping[str, int]) -> list[list[str]]:
    """Return the views of each replica, for how often each view is wanted."""
    most = max(wanted.values(), default=0)
    return [[view for view, number in wanted.items() if number > layer] for layer in range(most)]
