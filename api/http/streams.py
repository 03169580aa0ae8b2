"""Open streams: how many there may be, and how they are shared between clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api.http.problems import unavailable

Holder = tuple[str, ...]
"""Who follows: a tenant, or where there are none a principal, a nameless one by its address."""


class Streams:
    """Where there is no room, who holds most leaves a place to a newcomer who holds less."""

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
        # With one more he must not have more than the other is left with.
        if len(self._fullest()) <= len(self._held.get(who, ())) + 1:
            raise unavailable("too-many-streams", "as many rows are followed as may be", 5)

    @contextmanager
    def begun(self, who: Holder) -> Iterator[asyncio.Future[None]]:
        """Hold a place, which was checked for; what is given is done once it has to be left."""
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
