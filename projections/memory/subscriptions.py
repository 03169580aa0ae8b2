"""Rows that gateways follow: the replica's side of live queries.

A gateway tells which rows it watches, and asks for changes with one request at a time for all of
its listeners. The answer is the newest state of each row that changed since the last answer: a slow
gateway gets fewer states, but no growing queue. A gateway that stops asking, because it died, is
forgotten.
"""

from __future__ import annotations

import asyncio
import time

Watched = tuple[str, str]
"""View and key."""

FORGOTTEN = 60.0
"""Seconds without a request after which a gateway is considered gone; a living one asks every
ten.
"""


class Subscription:
    """The rows that one gateway watches."""

    def __init__(self) -> None:
        self.rows: set[Watched] = set()
        self.changed: set[Watched] = set()
        self.something = asyncio.Event()
        self.asking = 0
        self.asked_at = time.monotonic()


class Subscriptions:
    """The rows that all gateways watch, by gateway name."""

    def __init__(self) -> None:
        self._watches: dict[str, Subscription] = {}
        self._watched: set[Watched] = set()

    def note(self, view: str, key: str) -> None:
        """Note that a row has changed."""
        if (view, key) not in self._watched:
            return
        for watch in self._watches.values():
            if (view, key) in watch.rows:
                watch.changed.add((view, key))
                watch.something.set()

    def note_all(self, view: str) -> None:
        """Note that every row of a view may have changed."""
        for each, key in [*self._watched]:
            if each == view:
                self.note(view, key)

    def follow(self, watcher: str, rows: list[Watched]) -> None:
        """Replace the rows that a watcher follows.

        Rows that are new to it count as changed, so that no change is missed.
        """
        watch = self._watches.setdefault(watcher, Subscription())
        wanted: set[Watched] = {(view, key) for view, key in rows}
        watch.changed |= wanted - watch.rows
        watch.rows = wanted
        watch.something.set()
        if not wanted:
            del self._watches[watcher]
        self._count()

    def forget_gone(self) -> None:
        """Forget watchers that have not asked for long."""
        oldest = time.monotonic() - FORGOTTEN
        gone = [
            name
            for name, watch in self._watches.items()
            if not watch.asking and watch.asked_at < oldest
        ]
        for name in gone:
            del self._watches[name]
        if gone:
            self._count()

    async def changes(self, watcher: str, timeout: float) -> set[Watched] | None:
        """Return the rows that have changed since the last answer; none after `timeout` seconds.

        Return None if the watcher is unknown (any more): it must send its rows again.
        """
        watch = self._watches.get(watcher)
        if watch is None:
            return None
        waiting = asyncio.ensure_future(watch.something.wait())
        watch.asking += 1
        try:
            await asyncio.wait([waiting], timeout=timeout)
        finally:
            waiting.cancel()
            watch.asking -= 1
            watch.asked_at = time.monotonic()
        watch.something.clear()
        changed, watch.changed = watch.changed & watch.rows, set()
        return changed

    def _count(self) -> None:
        self._watched = {row for each in self._watches.values() for row in each.rows}
