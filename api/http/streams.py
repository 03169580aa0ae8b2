"""Bounds the number of open streams, so that no holder keeps the others out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api.http.problems import unavailable

Holder = tuple[str, ...]
"""Who holds a stream: a tenant; without tenants a principal, or an address for `anonymous`."""


class Streams:
    """When there is no room, the holder with most streams loses one to a newcomer with fewer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._held: dict[Holder, dict[asyncio.Future[None], None]] = {}

    def check(self, who: Holder) -> None:
        """Check that there is room for one more of `who`.

        Raises:
            Problem: 503 if there is none.
        """
        if self._open < self._most:
            return
        # With one more, `who` must not have more than the fullest holder would be left with.
        if len(self._fullest()) <= len(self._held.get(who, ())) + 1:
            raise unavailable(
                "too-many-streams", "as many rows are followed already as may be at once", 5
            )

    @contextmanager
    def begun(self, who: Holder) -> Iterator[asyncio.Future[None]]:
        """Hold a place that was checked for; the yielded future is done once it must be left."""
        if self._open >= self._most:
            fullest = self._fullest()
            oldest = next(iter(fullest))
            del fullest[oldest]
            self._open -= 1
            if not oldest.done():  # it may be ending, and a slow client yet to have the rest
                oldest.set_result(None)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        held = self._held.setdefault(who, {})
        held[place] = None
        self._open += 1
        try:
            yield place
        finally:
            if place in held:
                del held[place]
                self._open -= 1
            if not held:
                self._held.pop(who, None)

    def _fullest(self) -> dict[asyncio.Future[None], None]:
        return max(self._held.values(), key=len, default={})
