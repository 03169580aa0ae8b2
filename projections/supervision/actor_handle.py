"""An actor of the read side as used in this process: all calls to it go through the handle.

Its status is polled. The owner of an actor replaces it when it falls silent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ray.exceptions import ActorDiedError, RayError

from projections.errors import ActorUnavailable, named
from projections.parked_pages import EVERYTHING, Asked
from projections.poison import Parked
from projections.supervision.condition import Condition
from projections.supervision.progress import ObservedProgress
from rayfold.runtime.current_actor import ActorNotThere, CurrentActor, Spawn
from rayfold.runtime.lost_actor import RuntimeLost
from rayfold.runtime.node_domain import broke_while_made, why_broken, why_not_made
from rayfold.runtime.placing import Anywhere, Placed
from rayfold.runtime.together import ended, together

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two checks of every actor."""

POLL = 5.0
"""Seconds that a request for a position stays open at the actor if nothing happens."""

SILENCE = 2.0
"""Seconds without an answer after which an actor counts as not ready."""

PATIENCE = 4.0
"""Seconds after which a silent actor is replaced: it is suspended, or hangs."""

START = 60.0
"""Seconds that an actor may take to start on a busy machine."""

READY = 3600.0
"""Seconds for a new actor to reach the log's end."""


class ActorHandle:
    """A replica, a projector or a consumer, which may die and come back meanwhile."""

    def __init__(
        self,
        name: str,
        kind: str,
        views: Sequence[str],
        spawn: Spawn,
        place: Placed | None = None,
        *,
        owned: bool = True,
    ) -> None:
        """See `CurrentActor`; `place` is where the actor runs."""
        self._place = place or Placed(Anywhere(), name, kind, kind)
        self.name = name
        self.kind = kind
        self.views = list(views)
        self.progress = ObservedProgress()
        self._condition = Condition()
        self.ready = False
        self.restarts = -1
        self.seen: dict[str, Any] = {}
        self._actor = CurrentActor(name, spawn, self._changed, _unavailable, owned=owned)
        self._pid = 0
        self._heard = False
        """Whether this actor has ever answered: before that it may still be starting."""
        self._broken = ""
        """Why it fails while it starts, until it has answered."""
        self._silent_since: float | None = None
        self._wanted: list[int] = []
        self._watching: asyncio.Task[None] | None = None

    @property
    def ray_name(self) -> str:
        """The name by which other processes find it in Ray."""
        return self._actor.ray_name

    async def look(self) -> None:
        """Ask the actor for its status; one that does not answer is not ready."""
        try:
            async with asyncio.timeout(SILENCE):
                self.seen = await self._call("status", *self._told())
        except (TimeoutError, ActorUnavailable) as error:
            self.ready = False
            self._noted_error(error)
            self._condition.saw(ready=False)
            await self._missed(hangs=isinstance(error, TimeoutError))
            return
        self._heard, self._silent_since, self._broken = True, None, ""
        self._place.found(str(self.seen.get("node", "")))
        if self.seen["pid"] != self._pid:
            self.restarts += 1
            self._pid = self.seen["pid"]
            # A restarted one begins again: the position that it had reached is void.
            self.progress.begin_at(0)
        self.ready = bool(self.seen["ready"])
        if not self.ready and self.seen["position"] < self.progress.position:
            self.progress.begin_at(self.seen["position"])  # its store has lost events
        self.progress.advance(self.seen["position"])
        self._condition.saw(ready=self.ready, position=self.seen["position"])

    async def reached(self, position: int, deadline: float) -> bool:
        """Wait until the actor has reached a position; `deadline` is by `time.monotonic`."""
        if self.progress.position >= position:
            return True
        self._wanted.append(position)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            return await self.progress.reached(position, deadline - time.monotonic())
        finally:
            self._wanted.remove(position)

    async def until_ready(self) -> None:
        """Wait until it can serve.

        Raises:
            ActorUnavailable: it does not reach the log's end.
        """
        deadline = time.monotonic() + READY
        while not self.ready:
            if time.monotonic() > deadline:
                raise ActorUnavailable(f"{self.name} does not come to the log's end")
            await asyncio.sleep(0.05)
            await self.look()

    async def parked(self, asked: Asked = EVERYTHING) -> list[Parked]:
        """Return what it has parked: see `Asked.of`.

        Raises:
            ActorUnavailable: it does not answer.
        """
        return [Parked(*fields) for fields in await self._call("parked", *asked)]

    async def replay(self, view: str, key: str) -> bool:
        """Replay what is parked of a view under `key`; return False if it failed again.

        Raises:
            UnknownTarget: nothing is parked there.
            ActorUnavailable: it does not answer.
        """
        return bool(await self._call("replay", view, key))

    async def replay_all(self, view: str, keys: Sequence[str]) -> None:
        """Replay what is still parked of a view under these keys.

        Raises:
            ActorUnavailable: it does not answer; some may have been replayed.
        """
        await self._call("replay_all", view, list(keys))

    async def renew(self, view: str) -> None:
        """Make it begin again from its store's current state of a view; return when it goes on.

        Raises:
            ActorUnavailable: it does not answer.
        """
        await self._call("renew", view)

    async def end(self) -> None:
        """End the actor for good; callers that wait for a position get False."""
        self.close()
        self._place.ended()
        await self._actor.end()

    async def leave(self) -> None:
        """Stop calling the actor, but do not end it: it belongs to another process."""
        self.close()

    def misplaced(self) -> bool:
        """Return whether it should be on another node; see `Placing.misplaced`."""
        return self._place.misplaced()

    async def move(self) -> None:
        """End the actor, and start it again on the node that `Placing` prefers."""
        log.warning("an actor goes to another node", extra={"actor": self.name})
        self.ready = False
        with suppress(RayError):  # the next call tries again
            await self._actor.replace()

    def lose(self) -> None:
        """Stop calling the actor: its Ray is gone. Callers that wait for it are told."""
        self._actor.lose()
        self.ready = False
        self._broken = ""
        self._condition.saw(ready=False)
        self.seen = {"error": str(RuntimeLost())}

    def respawn(self) -> None:
        """Start the actor again, or find it: in another Ray, or after reconnecting."""
        self._actor.respawn()

    def close(self) -> None:
        """Stop watching the actor."""
        if self._watching is not None:
            self._watching.cancel()
        self._actor.leave()
        self.progress.release()

    async def _watch(self) -> None:
        """Send one request at a time for all waiting callers, for the nearest position."""
        while self._wanted:
            wanted = min(self._wanted)
            try:
                self.progress.advance(await self._call("reached", wanted, POLL))
            except ActorUnavailable:
                self.ready = False
                await asyncio.sleep(0.1)

    def _noted_error(self, error: BaseException) -> None:
        broken = why_broken(error)
        if broken and broken != self._broken:
            self._broken = broken
            log.error("an actor does not come up", extra={"actor": self.name, "error": broken})
        # An actor that fails while it starts is silent as well, between two attempts.
        self.seen = (
            {"error": self._broken, "broken": True}
            if self._broken
            else {"error": type(error).__name__}
        )

    async def _missed(self, *, hangs: bool) -> None:
        """Count a missing answer. Ray restarts what dies, but not what hangs."""
        now = time.monotonic()
        if not hangs:
            self._heard, self._silent_since = False, None
        elif self._silent_since is None:
            self._silent_since = now
        elif self._actor.owned and now - self._silent_since > (PATIENCE if self._heard else START):
            log.warning("a silent actor is replaced", extra={"actor": self.name})
            self._place.suspect()
            await self._actor.replace()

    def _changed(self) -> None:
        """Reset what is known: it is another actor than before."""
        self._heard, self._silent_since = False, None

    def _told(self) -> tuple[Any, ...]:
        """Return the arguments of a status request."""
        return ()

    async def _call(self, method: str, *arguments: Any, respawn: bool = True) -> Any:
        """See `CurrentActor.call`."""
        return await self._actor.call(method, *arguments, respawn=respawn)

    def status(self, end: int, lag_seconds: float) -> dict[str, Any]:
        """Return its status for operators; `lag` is in positions behind the log's end.

        An actor that only receives some types of events reports itself how far it is `behind`: the
        log's end and its position tell little of that.
        """
        seen = dict(self.seen)
        behind = seen.pop("behind", max(end - seen.get("position", 0), 0))
        seconds = seen.pop("behind_seconds", lag_seconds)
        return {
            "part": self.name,
            "kind": self.kind,
            "views": self.views,  # a silent one does not report them
            **seen,
            **self._condition.status(),
            "ready": self.ready,
            "restarts": max(self.restarts, 0),
            "lag": behind,
            "lag_seconds": round(seconds, 3),
        }


def _unavailable(name: str, error: BaseException) -> ActorUnavailable:
    if isinstance(error, ActorNotThere):
        return ActorUnavailable(f"{name} is not there")
    return ActorUnavailable(f"{name} gives no answer: {named(error)}")


async def answering(handles: Sequence[ActorHandle], *, adopted: bool = False) -> None:
    """Wait until all of them answer.

    Those that may be `adopted` go on: a silent one is replaced in time.

    Raises:
        ActorUnavailable: one does not start; all are ended, unless they may be adopted.
    """
    try:
        async with asyncio.timeout(START):
            await together(*(_answers(handle) for handle in handles))
    except BaseException as error:
        if not adopted:
            await ended([asyncio.ensure_future(handle.end()) for handle in handles])
        if not isinstance(error, TimeoutError | ActorUnavailable):
            raise
        why = f"an actor does not come up: {why_not_made(error)}"
        if not adopted or not isinstance(error, TimeoutError):
            raise ActorUnavailable(why) from error
        log.warning(why)
    await asyncio.gather(*(handle.look() for handle in handles))


async def _answers(handle: ActorHandle) -> None:
    """Wait for an answer; a name may still resolve to an actor that was just ended (ray#44083)."""
    while True:
        try:
            await handle._call("status", *handle._told())
        except ActorUnavailable as error:
            died = error.__cause__
            if not isinstance(died, ActorDiedError) or broke_while_made(died):
                raise
            await asyncio.sleep(0.1)
        else:
            return
