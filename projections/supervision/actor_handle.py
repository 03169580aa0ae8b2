"""An actor of the read side as its callers see it: where it is, and whether it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayError

from projections.errors import ProjectionError
from projections.supervision.progress import Progress

POLL = 5.0
"""Seconds that a question for a position stays with the actor, if nothing happens."""

SILENCE = 3.0
"""Seconds without an answer after which an actor counts as not ready."""


class ActorHandle:
    """A replica or a projector, as its users in this process see it."""

    def __init__(self, name: str, kind: str, actor: Any, views: Sequence[str]) -> None:
        self.name = name
        self.kind = kind
        self.actor = actor
        self.views = list(views)
        self.progress = Progress()
        self.ready = False
        self.restarts = -1
        self.seen: dict[str, Any] = {}
        self._pid = 0
        self._wanted: list[int] = []
        self._watching: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Asks the actor for its status; one that does not answer is not ready."""
        try:
            async with asyncio.timeout(SILENCE):
                self.seen = await self.actor.status.remote()
        except (TimeoutError, RayError) as error:
            self.ready = False
            self.seen = {"error": type(error).__name__}
            return
        if self.seen["pid"] != self._pid:
            self.restarts += 1
            self._pid = self.seen["pid"]
            # A restarted one begins anew: what it had reached counts no more.
            self.progress.position = 0
        self.ready = bool(self.seen["ready"])
        self.progress.advance(self.seen["position"])

    async def reached(self, position: int, deadline: float) -> bool:
        """Waits until the part has come so far; `deadline` is in `time.monotonic` seconds."""
        if self.progress.position >= position:
            return True
        self._wanted.append(position)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            return await self.progress.reached(position, deadline - time.monotonic())
        finally:
            self._wanted.remove(position)

    async def replay(self, view: str, key: str) -> bool:
        """Tries again what is parked of a view under `key`; False if it broke again.

        Raises:
            UnknownTarget: nothing is.
            ProjectionError: the actor does not answer.
        """
        try:
            return bool(await self.actor.replay.remote(view, key))
        except ProjectionError as error:
            raise type(error)(*error.args) from error
        except RayError as error:
            raise ProjectionError(f"{self.name}: {error!r}") from error

    def close(self) -> None:
        """Stops watching; whoever waits is told that it did not come so far."""
        if self._watching is not None:
            self._watching.cancel()
        self.progress.release()

    async def _watch(self) -> None:
        """One question at a time for all who wait, each time for the nearest position."""
        while self._wanted:
            wanted = min(self._wanted)
            try:
                self.progress.advance(await self.actor.reached.remote(wanted, POLL))
            except RayError:
                self.ready = False
                await asyncio.sleep(0.1)

    def status(self, end: int, lag_seconds: float) -> dict[str, Any]:
        """For operators; `lag` is in positions behind the log's end."""
        position = self.seen.get("position", 0)
        return {
            "part": self.name,
            "kind": self.kind,
            **self.seen,
            "ready": self.ready,
            "restarts": max(self.restarts, 0),
            "lag": max(end - position, 0),
            "lag_seconds": round(lag_seconds, 3),
        }
