"""The link to one host actor: finding or creating it, connecting, and checking its health."""

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
"""Seconds within which an actor must report its status."""

MAKING = 5.0
"""Seconds to wait for an actor that is being created in order to end it: without Ray's head node it
never is.
"""


class HostLink(ABC):
    """The actor may die, hang, or be lost with its Ray, and come back or be replaced."""

    def __init__(self, find: Callable[[], Awaitable[Any]], on_silence: Callable[[], None]) -> None:
        """`find` returns the actor's handle; an owner's creates the actor if it does not exist.

        `on_silence` is called when the actor no longer responds.
        """
        self._find = find
        self._on_silence = on_silence
        self.actor_id = ""
        """The id of the actor that was last found; a restarted actor keeps it."""
        self._process_key = b""
        self._restarts = -1
        self._actor: Any = None
        self._lost = False
        self._died_at: float | None = None
        self._finding: asyncio.Task[Any] | None = None
        self.heard_at = time.monotonic()
        """When the actor last responded, or was first asked after a time without requests."""
        self.unanswered = 0
        """Unanswered requests since then."""
        self.hangs = False
        """Whether it was up, but did not answer the last request."""
        self._has_come_up = self._was_connected = False
        self.error = self._broken = ""
        """Why it did not answer the last request."""
        self._rpc = self._new_rpc()

    async def actor(self) -> Any:
        """Return the actor's handle; create the actor if needed.

        Raises:
            RpcDisconnected: Ray is gone; see `lose`.
            RayError: it cannot be created.
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
            # The search goes on if this task is cancelled: otherwise nobody would know the new
            # actor and end it. `asyncio.shield` would be part of a reference cycle that holds the
            # handle until it is collected.
            await asyncio.wait([finding])
            return finding.result()
        return self._actor

    def lose(self) -> None:
        """Stop calling the actor: Ray is gone; commands without an answer wait for `renew`."""
        self.renew()
        self._finding = None
        self._lost = True

    def renew(self) -> None:
        """Find or create the actor again, and connect to it anew."""
        self._lost = False
        self._died_at = None
        self._actor = None
        self.hangs = self._has_come_up = self._was_connected = False
        self._begin_silence()
        self._rpc.close()
        self._rpc = self._new_rpc()

    @property
    def has_been_cut_off(self) -> bool:
        """Whether the host was connected, and the connection has ended since."""
        return self._was_connected and not self._rpc.connected

    @property
    def restarts(self) -> int:
        """How often a reconnection found another process in the host's place."""
        return max(self._restarts, 0)

    @property
    def connected(self) -> bool:
        """Whether the host is connected; its heartbeat is then the connection's."""
        return self._rpc.connected

    async def status(self) -> dict[str, Any]:
        """Return the host's status with `ready`, and with `error` if it does not answer."""
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
        """Check that the host responds where commands go; see `heard_at`, `hangs`, `error`."""
        if self.has_been_cut_off and not self.hangs:
            self._has_come_up = False  # it died, and Ray restarts it: wait until it is up again
        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                await self._greet()
        except (TimeoutError, RpcDisconnected, RpcServerFailed, RayError) as error:
            self._noted_error(error)
            self.unanswered += 1
            # A host that was never connected may hang as well: its port still listens.
            self._has_come_up = self._has_come_up and isinstance(error, TimeoutError)
            self.hangs = self._has_come_up
            if isinstance(error, ActorDiedError):
                self._died()
        else:
            self._heard()

    async def replace(self) -> None:
        """End the actor, whatever it is doing, and create another.

        If it was suspended or hangs, it may continue later: its appends fail on their expected
        revision.
        """
        await self.end()
        self.renew()

    async def end(self) -> None:
        """End the actor, whatever it is doing, even while it is being created."""
        if self._finding is not None:
            await asyncio.wait([self._finding], timeout=MAKING)
        if self._actor is not None:
            with suppress(RayError, ValueError):  # it is gone
                await asyncio.to_thread(ray.kill, self._actor)

    @abstractmethod
    async def _greet(self) -> None:
        """Send the host an empty request on the path that commands take.

        Raises:
            RpcDisconnected, RpcServerFailed, RayError: see `RpcClient.call`.
        """

    def _died(self) -> None:
        if not self._lost:
            self.renew()
            self._died_at = time.monotonic()

    def _went_away(self, *, for_good: bool) -> None:
        """Record that it must come up again; `for_good`: under another handle than the current one.

        For a while, the name may still resolve to the dead actor (ray#44083), then to a new one.
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
        # An actor that fails while it starts has no connection either, between two attempts.
        self.error = self._broken or type(error).__name__

    async def _found(self) -> Any:
        actor = await self._find()
        if self._finding is asyncio.current_task():  # otherwise it belonged to a Ray that is gone
            self._actor = actor
            self.actor_id = str(actor._actor_id.hex())
            self._begin_silence()
        return actor

    async def _address(self) -> Address:
        actor = await self.actor()
        address: Address = await actor.address.remote()
        if address.key != self._process_key:  # each process creates its own key
            self._process_key = address.key
            self._restarts += 1
        return address

    def _new_rpc(self) -> RpcClient:
        rpc = RpcClient(self._address, lambda: self._fell_silent(rpc))
        return rpc

    def _fell_silent(self, rpc: RpcClient) -> None:
        if rpc is not self._rpc:  # this is about the previous actor
            return
        self.hangs = True
        self.error = RpcSilent.__name__
        self._on_silence()


def _noted(finding: asyncio.Task[Any]) -> None:
    """Retrieve an error that may have no other receiver."""
    if not finding.cancelled() and (error := finding.exception()) is not None:
        log.info("an actor was not found", extra={"error": repr(error)})
