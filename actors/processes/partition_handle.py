"""A process actor as its owner manages it: checked once a second, replaced if it fails."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from ray.exceptions import ActorDiedError, RayError

from actors.errors import Unavailable
from rayfold import RayfoldError
from rayfold.runtime.current_actor import CurrentActor, Spawn
from rayfold.runtime.lost_actor import RuntimeLost
from rayfold.runtime.node_domain import why_not_made
from rayfold.runtime.placing import Placed
from rayfold.runtime.rpc import Address
from rayfold.runtime.threads import in_thread

log = logging.getLogger(__name__)

SILENCE = 2.0
"""Seconds without an answer after which an actor counts as not ready."""

PATIENCE = 4.0
"""Seconds after which an unresponsive actor is replaced: it is suspended, or hangs."""

UNANSWERED = 2
"""Failed checks that are also needed: while this process or machine was suspended there were
none.
"""

ANSWER = 30.0
"""Seconds that an operator's request may take."""

NO_ANSWER = "it does not answer"

STOP = 10.0
"""Seconds that an orderly stop may take."""


class PartitionHandle:
    """Ray restarts it when its process dies; if Ray has given up, or it hangs, this class does."""

    def __init__(self, name: str, spawn: Spawn, place: Placed) -> None:
        """See `CurrentActor`; `place` is where the actor runs."""
        self.name = name
        self.ready = False
        self.seen: dict[str, Any] = {}
        self.restarts = -1
        self._spawn = spawn
        self._place = place
        self._actor: CurrentActor | None = None
        """None until the actor was started."""
        self._pid = 0
        self._told: tuple[int, Address] | None = None
        self._heard = 0.0
        self._unanswered = 0
        self._since: datetime | None = None
        """When it was first found not ready."""

    async def start(self) -> None:
        """Start the actor, or find the running one; `end` also ends it if this is cancelled."""
        await in_thread(self._make if self._actor is None else self._actor.respawn)

    async def look(self, address: Address) -> None:
        """Ask for its status, and tell it where to ask for routes of commands."""
        try:
            async with asyncio.timeout(SILENCE):
                self.seen = await self._call("status")
                self._heard, self._unanswered = time.monotonic(), 0
                self._note_process(self.seen["pid"])
                if self._told != (self._pid, address):
                    await self._call("ask_at", tuple(address))
                    self._told = (self._pid, address)
        except (TimeoutError, RayfoldError) as error:
            self.ready = False
            self.seen = {"error": str(error) or NO_ANSWER}
            if isinstance(error, TimeoutError):
                await self._replace_if_it_hangs()
        else:
            self.ready = bool(self.seen["ready"])
        if self.ready:
            self._since = None
        elif self._since is None:
            self._since = datetime.now(UTC)

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Return the actor's answer.

        Raises:
            Unavailable: the actor does not answer.
            RayfoldError: what the actor raised.
        """
        try:
            async with asyncio.timeout(ANSWER):
                return await self._call(method, *arguments)
        except TimeoutError as error:
            raise Unavailable(f"{self.name} does not answer") from error

    async def end(self) -> None:
        """Stop the actor, and end it for good."""
        try:
            if self._actor is not None:
                await self._actor.end(STOP)
        finally:
            self._place.ended()

    def lose(self) -> None:
        """Stop calling the actor: its Ray is gone."""
        if self._actor is not None:
            self._actor.lose()
        self.ready = False
        self.seen = {"error": str(RuntimeLost())}

    def status(self) -> dict[str, Any]:
        """Return its status for operators; `since` if it is not ready."""
        since = self._since
        return {
            "part": self.name,
            "kind": "process",
            "serves": False,
            **self.seen,
            "ready": self.ready,
            "restarts": max(self.restarts, 0),
            **({"since": since.isoformat(timespec="milliseconds")} if since else {}),
        }

    def _note_process(self, pid: int) -> None:
        if pid != self._pid:
            self.restarts += 1
            self._pid = pid

    def _make(self) -> None:
        self._actor = CurrentActor(self.name, self._spawn, self._changed, unavailable, owned=True)

    def _changed(self) -> None:
        self._heard, self._unanswered = 0.0, 0

    async def _replace_if_it_hangs(self) -> None:
        """Replace an actor that no longer answers; one that is starting may take its time."""
        self._unanswered += 1
        if not self._heard or time.monotonic() - self._heard < SILENCE + PATIENCE:
            return
        if self._unanswered < UNANSWERED:
            return
        assert self._actor is not None
        log.warning("a silent actor is replaced", extra={"actor": self.name})
        self._place.suspect()
        await self._actor.replace()

    async def _call(self, method: str, *arguments: Any) -> Any:
        if self._actor is None:
            raise Unavailable(f"{self.name} is being made")
        return await self._actor.call(method, *arguments)


def unavailable(name: str, error: BaseException) -> Unavailable:
    """Return the error of a process actor that does not answer."""
    if isinstance(error, ActorDiedError):
        return Unavailable(f"{name} has died: {why_not_made(error)}")
    if isinstance(error, RuntimeLost):
        return Unavailable(f"{name} gives no answer: {error}")
    what = type(error).__name__ if isinstance(error, RayError) else repr(error)
    return Unavailable(f"{name} gives no answer: {what}")
