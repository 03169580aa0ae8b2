"""Hints for the fields of a state-stored aggregate's state, given in `Annotated[…]`.

preferences: Annotated[dict[str, Any], AsJson("whatever the shop's form has")] = {}
lines: Annotated[Lines, RowsOf(Line)] = Lines()
full_name: Annotated[str, RenamedFrom("name")] = ""
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AsJson:
    """Store the field in one column of JSON, whatever its type; `reason` says why."""

    reason: str


@dataclass(frozen=True)
class RowsOf:
    """The field is a custom collection: constructed from an iterable of items, iterates over them.

    `item` is the items' type, a model or a scalar. They are stored as rows of a table, like
    those of a list.
    """

    item: type


@dataclass(frozen=True)
class RenamedFrom:
    """The field had another name before: `rayfold migrate` copies the values from there."""

    name: str
