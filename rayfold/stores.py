"""The stores that a view may be kept in, by name."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

BUILT_IN = ("memory", "postgres", "redis", "dynamodb")

GROUP = "rayfold.stores"
"""The entry point group by which a package provides a store."""


@cache
def known_stores() -> tuple[str, ...]:
    """Return the names of the installed stores, without loading any of them."""
    brought = sorted({each.name for each in entry_points(group=GROUP)} - {*BUILT_IN})
    return (*BUILT_IN, *brought)
