"""Defaults for the methods of the port that are not about rows."""

from __future__ import annotations

from typing import Any

from projections.poison import is_refused


class PlainStore:
    """A store with one address: it is connected when needed, and may be away.

    A store that differs overrides these; see `ReadStore`.
    """

    required = False

    def refuses(self, error: BaseException) -> bool:
        """See `ReadStore.refuses`: the row is too large, or not valid for the view's model."""
        return is_refused(error)

    async def is_too_much(self, error: BaseException) -> bool:
        """See `ReadStore.is_too_much`."""
        return False

    async def connect(self) -> None:
        """Do nothing: the store connects with the first query."""

    async def look(self) -> None:
        """Do nothing: there is only one server."""

    def status(self, end: int) -> list[dict[str, Any]]:
        """Return nothing."""
        return []
