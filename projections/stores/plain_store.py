"""Default answers to the questions of the port that are not about rows."""

from __future__ import annotations

from typing import Any

from projections.poison import is_refused


class PlainStore:
    """A store with one address: it is asked when it is needed, and may be away.

    A store that differs in one of these says so itself; see `ReadStore`.
    """

    required = False

    def refuses(self, error: BaseException) -> bool:
        """See `ReadStore.refuses`: it is too large, or none that the view's model reads."""
        return is_refused(error)

    def is_too_much(self, error: BaseException) -> bool:
        """See `ReadStore.is_too_much`."""
        return False

    async def connect(self) -> None:
        """Connect with the first question."""

    async def look(self) -> None:
        """Know of no server beside the one."""

    def status(self, end: int) -> list[dict[str, Any]]:
        """Return nothing."""
        return []
