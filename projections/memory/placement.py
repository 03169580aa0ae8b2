"""Which views each memory replica holds, so that each view has the wanted number of replicas.

Layer n holds the views of which more than n replicas are wanted. Layer 0 holds them all; if four
replicas of one view are wanted, layers 1 to 3 hold that view alone.
"""

from __future__ import annotations

from collections.abc import Mapping


def placement_of(wanted: Mapping[str, int]) -> list[list[str]]:
    """Return the views of each replica, given the wanted number for each view."""
    most = max(wanted.values(), default=0)
    return [[view for view, number in wanted.items() if number > layer] for layer in range(most)]
