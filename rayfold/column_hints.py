"""What an author says of a field of a state-stored aggregate's state, by `Annotated[…]`.

preferences: Annotated[dict[str, Any], AsJson("whatever the shop's form has")] = {}
lines: Annotated[Lines, RowsOf(Line)] = Lines()
full_name: Annotated[str, RenamedFrom("name")] = ""
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AsJson:
    """The field is one column of JSON, whatever it holds; `reason` says why it has to be."""

    reason: str


@dataclass(frozen=True)
class RowsOf:
    """The field is a collection of the author's: made of an iterable of items, iterates over them.

    `item` is their type: a model or a scalar. They are rows of a table, as a list's would be.
    """

    item: type


@dataclass(frozen=True)
class RenamedFrom:
    """The field had another name in the layout before: `rayfold migrate` takes its values over."""

    name: str
