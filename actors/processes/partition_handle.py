"""A process actor as its owner sees it: asked once a second, replaced when it hangs or is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from actors.errors import Unavailable
from rayfold import RayfoldError
from rayfold.runtime.lost_actor import NODE_LOSS, LostActor, RuntimeLost
from rayfold.runtime.node_domain import why_not_made
from rayfold.runtime.placing import Placed
from rayfold.runtime.rpc import Address
from rayfold.runtime.threads import in_thread

log = logging.getLogger(__name__)

SILENCE = 2.0
"""Seconds without an answer after which an actor counts as not ready."""

PATIENCE = 4.0
"""Seconds after which one that is silent is ended, and started again: it is stopped, or hangs."""

ANSWER = 30.0
"""Seconds for what operators ask of one."""

STOP = 10.0
"""Seconds to end in order."""


class PartitionHandle:
    """Ray starts it again when its process dies; when Ray has given it up, or it hangs, we do."""

    def __init__(self, name: str, spawn: Callable[[], Any], place: Placed) -> None:
        """`spawn` starts the actor, and gives Ray's handle of it; it blocks."""
        self.name = name
        self.ready = False
        self.seen: dict[str, Any] = {}
        self.restarts = -1
        self._spawn = spawn
        self._place = place
        self._actor: Any = None
        self._pid = 0
        self._told: tuple[int, Address] | None = None
        self._heard = 0.0
        self._since: datetime | None = None
        """When it was first seen not to be ready."""
        self._respawning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the actor, or find the one that lives; where it is broken off, `end` has it too."""
        await in_thread(lambda: self._became(self._spawn()))

    async def look(self, address: Address) -> None:
        """Ask for its status, and tell it where it asks the way of commands."""
        try:
            async with asyncio.timeout(SILENCE):
                self.seen = await self._call("status")
                self._heard = time.monotonic()
                self._note_process(self.seen["pid"])
                if self._told != (self._pid, address):
                    await self._call("ask_at", tuple(address))
                    self._told = (self._pid, address)
        except (TimeoutError, RayfoldError) as error:
            self.ready = False
            self.seen = {"error": str(error) or "it does not answer"}
            if isinstance(error, TimeoutError):
                await self._replace_if_it_hangs()
        else:
            self.ready = bool(self.seen["ready"])
        if self.ready:
            self._since = None
        elif self._since is None:
            self._since = datetime.now(UTC)

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Return an answer of the actor's.

        Raises:
            Unavailable: it gives none.
            RayfoldError: as the actor raised it.
        """
        try:
            async with asyncio.timeout(ANSWER):
                return await self._call(method, *arguments)
        except TimeoutError as error:
            raise Unavailable(f"{self.name} does not answer") from error

    async def end(self) -> None:
        """Let it stop where it is, and end it for good."""
        if self._respawning is not None:
            self._respawning.cancel()
            # It may be making the one that is to end; without Ray's head it cannot.
            await asyncio.wait([self._respawning], timeout=STOP)
        self._place.ended()
        if self._actor is None:
            return  # it was never made
        try:
            async with asyncio.timeout(STOP):
                await self._call("stop")
        except (TimeoutError, Unavailable) as error:
            log.info("an actor did not stop by itself", extra={"actor": self.name, "error": error})
        if not isinstance(self._actor, LostActor):
            with suppress(RayError, ValueError):  # it is gone
                await asyncio.to_thread(ray.kill, self._actor)

    def lose(self) -> None:
        """Call the actor no more: its runtime is gone."""
        self._actor = LostActor()
        self.ready = False
        self.seen = {"error": str(RuntimeLost())}

    def status(self) -> dict[str, Any]:
        """Return it for operators; `since` where it is not ready."""
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

    def _became(self, actor: Any) -> None:
        self._actor = actor
        self._heard = 0.0

    async def _replace_if_it_hangs(self) -> None:
        """End one that answered once and does not any more; one that starts may take its time."""
        if not self._heard or time.monotonic() - self._heard < SILENCE + PATIENCE:
            return
        log.warning("a silent actor is replaced", extra={"actor": self.name})
        self._place.suspect()
        silent = self._actor
        with suppress(RayError, ValueError):  # it is gone
            await asyncio.to_thread(ray.kill, silent)
        await self._respawn(silent)

    async def _respawn(self, gone: Any) -> None:
        def make() -> None:
            actor = self._spawn()
            if self._actor is gone:
                self._became(actor)

        if self._actor is gone:
            await in_thread(make)

    async def _respawn_later(self, dead: Any) -> None:
        await asyncio.sleep(NODE_LOSS)
        log.warning("an actor is started again", extra={"actor": self.name})
        with suppress(RayError):  # the next look tries again
            await self._respawn(dead)

    async def _call(self, method: str, *arguments: Any) -> Any:
        actor = self._actor
        try:
            return await getattr(actor, method).remote(*arguments)
        except RuntimeLost as error:
            raise Unavailable(f"{self.name}: {error}") from error
        except RayTaskError as error:
            if isinstance(error.cause, RayfoldError):
                raise type(error.cause)(*error.cause.args) from error
            raise Unavailable(f"{self.name}: {error.cause!r}") from error
        except ActorDiedError as error:
            if self._respawning is None or self._respawning.done():
                self._respawning = asyncio.create_task(self._respawn_later(actor))
            raise Unavailable(f"{self.name} has died: {why_not_made(error)}") from error
        except RayError as error:
            raise Unavailable(f"{self.name}: {type(error).__name__}") from error
