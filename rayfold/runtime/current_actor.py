"""A handle of the Ray actor that has a name at present, renewed when that actor is gone.

The process that owns an actor starts and ends it. Other processes only look it up by name, again
each time it is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from rayfold import RayfoldError
from rayfold.runtime.lost_actor import NODE_LOSS, LostActor, RuntimeLost

log = logging.getLogger(__name__)

STOP = 5.0
"""Seconds for an actor to end in order."""

Spawn = Callable[[], Any]

Unavailable = Callable[[str, BaseException], RayfoldError]
"""Makes the caller's own error from an actor's name and the reason why it does not answer: an error
of Ray, an error of the actor other than a `RayfoldError`, `RuntimeLost`, or `ActorNotThere`."""


class ActorNotThere(LookupError):
    """The actor's owner has not started it yet, or has ended it."""


class CurrentActor:
    """Calls the actor that has a name at present.

    Ray restarts the actor when its process dies. When Ray has given up, the owning process starts
    another one, and all other processes look that one up.
    """

    def __init__(
        self,
        name: str,
        spawn: Spawn,
        changed: Callable[[], None],
        unavailable: Unavailable,
        *,
        owned: bool,
    ) -> None:
        """`spawn` starts the actor, or finds it if it is not `owned`, and returns Ray's handle.

        It may block. `changed` is called whenever another actor has taken its place.
        """
        self.owned = owned
        self.ray_actor: Any = spawn() if owned else None
        """Ray's handle of the actor; None while it has to be looked up."""
        self._name = name
        self._spawn = spawn
        self._changed = changed
        self._unavailable = unavailable
        self._finding: asyncio.Task[Any] | None = None
        self._calls: set[asyncio.Future[Any]] = set()
        self._respawning: asyncio.Task[None] | None = None
        self._making: asyncio.Task[None] | None = None
        """The task that replaces an actor that is gone."""
        self._ended = False

    @property
    def ray_name(self) -> str:
        """The name by which other processes find the actor in Ray."""
        return str(getattr(self._spawn, "ray_name", self._name))

    async def call(self, method: str, *arguments: Any, respawn: bool = True) -> Any:
        """Call the actor; if Ray does not restart it, start it or look it up again.

        Raises:
            RayfoldError: made by `unavailable`, if the actor does not answer or its method failed;
                or as the actor raised it.
        """
        actor = self.ray_actor if self.ray_actor is not None else await self._found()
        try:
            return await self._answer(getattr(actor, method).remote(*arguments))
        except RuntimeLost as error:
            raise self._unavailable(self._name, error) from error
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, RayfoldError):
                raise type(cause)(*cause.args) from error
            raise self._unavailable(self._name, cause) from error
        except ActorDiedError as error:
            if not self.owned:
                if self.ray_actor is actor:
                    self._became(None)
            elif respawn and (self._respawning is None or self._respawning.done()):
                self._respawning = asyncio.create_task(self._respawn_later(actor))
            raise self._unavailable(self._name, error) from error
        except RayError as error:
            raise self._unavailable(self._name, error) from error

    async def replace(self) -> None:
        """End the actor, and start another one in its place.

        Raises:
            RayError: it could not be started; the next call tries again.
        """
        replaced = self.ray_actor
        with suppress(RayError, ValueError):  # the actor is gone
            await asyncio.to_thread(ray.kill, replaced)
        await self._respawn_instead(replaced)

    async def end(self, within: float | None = None) -> None:
        """End the actor for good, also one that is being started; first let it stop in order.

        `within`: the seconds that it has to stop, by default `STOP`.
        """
        within = STOP if within is None else within
        self._ended = True
        self.leave()
        try:
            async with asyncio.timeout(within):
                await self.call("stop", respawn=False)
        except (TimeoutError, RayfoldError) as error:
            log.info("an actor did not stop by itself", extra={"actor": self._name, "error": error})
        finally:  # also where we are cancelled while it stops
            self._kill(self.ray_actor)
            if self._making is not None:  # which ends what it makes; without Ray's head it cannot
                await asyncio.wait([self._making], timeout=within)

    def leave(self) -> None:
        """Never start the actor again."""
        if self._respawning is not None:
            self._respawning.cancel()

    def lose(self) -> None:
        """Stop calling the actor, because its runtime is gone; pending calls raise that."""
        self.ray_actor = LostActor()
        for call in self._calls:
            call.cancel()

    def respawn(self) -> None:
        """Start or find the actor again: Ray was restarted, or the connection to it was."""
        self._became(self._spawn() if self.owned else None)

    def _became(self, actor: Any) -> None:
        self.ray_actor = actor
        self._changed()

    async def _respawn_later(self, dead: Any) -> None:
        await asyncio.sleep(NODE_LOSS)
        if self.ray_actor is dead:
            log.warning("an actor is started again", extra={"actor": self._name})
            with suppress(RayError):  # the next call tries again
                await self._respawn_instead(dead)

    async def _respawn_instead(self, gone: Any) -> None:
        """Start the actor again, unless it was replaced already or Ray is lost.

        Ray's head may be slow or gone. Cancelling the caller does not cancel the start: else there
        would be an actor that nobody knows of and ends.
        """
        if self.ray_actor is gone and not self._ended:
            if self._making is None or self._making.done():
                self._making = asyncio.create_task(self._take_another(gone))
            await asyncio.shield(self._making)

    async def _take_another(self, gone: Any) -> None:
        """Start another actor and use it from now on; end it if `end` was called meanwhile."""
        actor = await asyncio.to_thread(self._spawn)
        if self._ended:
            self._kill(actor)
        elif self.ray_actor is gone:
            self._became(actor)

    def _kill(self, actor: Any) -> None:
        if isinstance(actor, LostActor):
            return
        try:
            ray.kill(actor)
        except (RayError, ValueError) as error:  # it is gone
            log.info("an actor could not be ended", extra={"actor": self._name, "error": error})

    async def _found(self) -> Any:
        """Return the actor that its owner started. One look-up at a time: Ray's head may be gone.

        Raises:
            RayfoldError: made by `unavailable`, if there is no actor of that name.
        """
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(asyncio.to_thread(self._spawn))
        finding = self._finding
        try:
            actor = await asyncio.shield(finding)
        except (RayError, ValueError) as error:
            raise self._unavailable(self._name, ActorNotThere("it is not there")) from error
        if self.ray_actor is None:
            self._became(actor)
        return self.ray_actor

    async def _answer(self, result: Any) -> Any:
        """Wait for a result or for the loss of the runtime, after which no result comes."""
        call: asyncio.Future[Any] = asyncio.ensure_future(result)
        self._calls.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            if isinstance(self.ray_actor, LostActor):
                raise RuntimeLost from None
            raise
        finally:
            self._calls.discard(call)
