"""The stores that a view may be kept in, by name."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

BUILT_IN = ("memory", "postgres", "redis", "dynamodb")

GROUP = "rayfold.stores"
"""The group of entry points by which a package brings a store of its own."""


@cache
def known_stores() -> tuple[str, ...]:
    """Return the names of the stores that are installed; none of them is loaded for it."""
    brought = sorted({each.name for each in entry_points(group=GROUP)} - {*BUILT_IN})
    return (*BUILT_IN, *brought)
