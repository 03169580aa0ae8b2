"""The link to one host actor: found or made, connected with, asked how it is."""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from rayfold.runtime.lost_actor import NODE_LOSS
from rayfold.runtime.node_domain import why_broken
from rayfold.runtime.rpc import (
    Address,
    RpcClient,
    RpcDisconnected,
    RpcServerFailed,
    RpcSilent,
)

log = logging.getLogger(__name__)

STATUS_TIMEOUT = 1.0
"""Seconds in which an actor says how it is."""

MAKING = 5.0
"""Seconds to wait for an actor that is being made, to end it: without Ray's head it never is."""


class HostLink(ABC):
    """It may die meanwhile, hang, or be lost with its Ray, and come back or be replaced."""

    def __init__(self, find: Callable[[], Awaitable[Any]], on_silence: Callable[[], None]) -> None:
        """`find` gives the actor's handle; an owner's makes the actor unless it is there already.

        `on_silence` is called when the actor gives no sign of life any more.
        """
        self._find = find
        self._on_silence = on_silence
        self.actor_id = ""
        """Which actor it was when it was last found; a restarted one is the same."""
        self._process_key = b""
        self._restarts = -1
        self._actor: Any = None
        self._lost = False
        self._died_at: float | None = None
        self._finding: asyncio.Task[Any] | None = None
        self.heard_at = time.monotonic()
        """When it was last heard, or was asked again after a time in which nobody had."""
        self.unanswered = 0
        """Times that it was asked since, and did not answer."""
        self.hangs = False
        """Whether it has come up, but did not answer when it was last asked."""
        self._has_come_up = self._was_connected = False
        self.error = self._broken = ""
        """Why it did not answer when it was last asked."""
        self._rpc = self._new_rpc()

    async def actor(self) -> Any:
        """Return the actor's handle, and make the actor if need be.

        Raises:
            RpcDisconnected: Ray is gone; see `lose`.
            RayError: it cannot be made.
        """
        if self._lost:
            raise RpcDisconnected("Ray is started again")
        if self._actor is None:
            if self._died_at is not None and time.monotonic() - self._died_at < NODE_LOSS:
                raise RpcDisconnected("the write host died with its node")
            if self._finding is None or self._finding.done():
                self._finding = asyncio.create_task(self._found())
                self._finding.add_done_callback(_noted)
            finding = self._finding
            # It goes on where we are cancelled: nobody would know of the actor, and end it. A
            # shield would be part of a cycle, and hold the handle until that is collected.
            await asyncio.wait([finding])
            return finding.result()
        return self._actor

    def lose(self) -> None:
        """Call the actor no more, as Ray is gone; what has no answer yet waits for `renew`."""
        self.renew()
        self._finding = None
        self._lost = True

    def renew(self) -> None:
        """Find or make the actor again, and connect with it anew."""
        self._lost = False
        self._died_at = None
        self._actor = None
        self.hangs = self._has_come_up = self._was_connected = False
        self._begin_silence()
        self._rpc.close()
        self._rpc = self._new_rpc()

    @property
    def has_been_cut_off(self) -> bool:
        """Whether commands went to the host, and their connection has ended since."""
        return self._was_connected and not self._rpc.connected

    @property
    def restarts(self) -> int:
        """How often another process was in the host's place when it was connected with again."""
        return max(self._restarts, 0)

    @property
    def connected(self) -> bool:
        """Whether commands go to the host at once: its heartbeat is that of its connection."""
        return self._rpc.connected

    async def status(self) -> dict[str, Any]:
        """Return what the host says of itself, `ready`, and `error` where it does not answer."""
        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                actor = await self.actor()
                said: dict[str, Any] = await actor.status.remote()
        except (TimeoutError, RayError, RpcDisconnected) as error:
            self._noted_error(error)
            if isinstance(error, ActorDiedError):
                self._died()
            elif not isinstance(error, TimeoutError):
                self._has_come_up = False
            return {"ready": False, "error": self.error}
        self._heard()
        return {"ready": True, **said}

    async def ping(self) -> None:
        """Ask the host for a word, the way that commands go; see `heard_at`, `hangs`, `error`."""
        if self.has_been_cut_off and not self.hangs:
            self._has_come_up = False  # it died, and Ray restarts it: it has to come up again
        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                await self._greet()
        except (TimeoutError, RpcDisconnected, RpcServerFailed, RayError) as error:
            self._noted_error(error)
            self.unanswered += 1
            # One that was never connected may hang as well: its port still listens.
            self._has_come_up = self._has_come_up and isinstance(error, TimeoutError)
            self.hangs = self._has_come_up
            if isinstance(error, ActorDiedError):
                self._died()
        else:
            self._heard()

    async def replace(self) -> None:
        """End the actor, whatever it is at, and make another.

        One that is stopped or hangs may go on later: its appends fail by their expected revision.
        """
        await self.end()
        self.renew()

    async def end(self) -> None:
        """End the actor, whatever it is at; one that is still being made too."""
        if self._finding is not None:
            await asyncio.wait([self._finding], timeout=MAKING)
        if self._actor is not None:
            with suppress(RayError, ValueError):  # it is gone
                await asyncio.to_thread(ray.kill, self._actor)

    @abstractmethod
    async def _greet(self) -> None:
        """Ask the host for nothing, the way that commands go.

        Raises:
            RpcDisconnected, RpcServerFailed, RayError: see `RpcClient.call`.
        """

    def _died(self) -> None:
        if not self._lost:
            self.renew()
            self._died_at = time.monotonic()

    def _went_away(self, *, for_good: bool) -> None:
        """Take note that it has to come up again; `for_good`: by another handle than it has now.

        The name may still lead to a dead one for a while (ray#44083), then to a new one.
        """
        self._has_come_up = False
        if for_good and not self._lost:
            self._actor = None
            self._died_at = time.monotonic()

    def _begin_silence(self) -> None:
        self.heard_at, self.unanswered = time.monotonic(), 0

    def _heard(self) -> None:
        self._begin_silence()
        self._has_come_up = True
        self.hangs = False
        self.error = self._broken = ""

    def _noted_error(self, error: BaseException) -> None:
        broken = why_broken(error)
        if broken and broken != self._broken:
            self._broken = broken
            log.error("a write host does not come up", extra={"error": broken})
        # One that breaks while it is made has no connection either, between two attempts.
        self.error = self._broken or type(error).__name__

    async def _found(self) -> Any:
        actor = await self._find()
        if self._finding is asyncio.current_task():  # else it was of a Ray that is gone
            self._actor = actor
            self.actor_id = str(actor._actor_id.hex())
            self._begin_silence()
        return actor

    async def _address(self) -> Address:
        actor = await self.actor()
        address: Address = await actor.address.remote()
        if address.key != self._process_key:  # each process makes one for itself
            self._process_key = address.key
            self._restarts += 1
        return address

    def _new_rpc(self) -> RpcClient:
        rpc = RpcClient(self._address, lambda: self._fell_silent(rpc))
        return rpc

    def _fell_silent(self, rpc: RpcClient) -> None:
        if rpc is not self._rpc:  # the actor before was meant
            return
        self.hangs = True
        self.error = RpcSilent.__name__
        self._on_silence()


def _noted(finding: asyncio.Task[Any]) -> None:
    """Take note of an error of which nobody may be left to hear."""
    if not finding.cancelled() and (error := finding.exception()) is not None:
        log.info("an actor was not found", extra={"error": repr(error)})
