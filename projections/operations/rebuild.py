"""A rebuild in progress, for those who wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal

from rayfold.view import Store

State = Literal["waiting", "building", "switching", "done", "failed"]


class Rebuild:
    """The rebuild of one view in its stores, one after the other."""

    def __init__(self, view: str, stores: Sequence[Store], *, accept_parked: bool = False) -> None:
        """`accept_parked`: it replaces the live generation even if it has parked keys that that one
        serves.
        """
        self.view = view
        self.accept_parked = accept_parked
        self.stores = list(stores)
        self.store: Store | None = None
        self.state: State = "waiting"
        self.position = 0
        self.end = 0
        self.events = 0
        self.error: str | None = None
        self.would_park = False
        """Whether it failed because of what it has parked: see `WouldPark`."""
        self.finished = asyncio.Event()
        self._began = time.monotonic()
        self._began_store = self._began
        self._ended: float | None = None

    def begin(self, store: Store, end: int) -> None:
        """Record that this store's rows are now being built, up to about position `end`."""
        self.store, self.state = store, "building"
        self.position, self.end, self.events = 0, end, 0
        self._began_store = time.monotonic()

    def moved(self, position: int, events: int) -> None:
        """Record the position reached and the number of events."""
        self.position, self.events = position, events
        self.end = max(self.end, position)

    def over(self, error: str | None, *, would_park: bool = False) -> None:
        """Record that it is done, or has failed."""
        self.would_park = would_park
        self.state = "failed" if error else "done"
        self.error = error
        self._ended = time.monotonic()
        self.finished.set()

    @property
    def running(self) -> bool:
        """Whether it is still running."""
        return self.state not in ("done", "failed")

    def status(self) -> dict[str, Any]:
        """Return its status, with times in seconds and an estimate for the current store."""
        now = self._ended or time.monotonic()
        took = now - self._began_store
        left = took * (self.end - self.position) / self.position if self.position else None
        return {
            "view": self.view,
            "state": self.state,
            "store": self.store,
            "stores": self.stores,
            "position": self.position,
            "end": self.end,
            "events": self.events,
            "events_per_second": round(self.events / took) if took > 0 else 0,
            "seconds": round(now - self._began, 1),
            "seconds_left": round(left, 1) if left is not None and self.running else None,
            **({"error": self.error, "would_park": self.would_park} if self.error else {}),
        }
