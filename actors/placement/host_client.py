"""The client of a host actor: single commands in, batches on the way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import ActorDiedError, RayActorError, RayError

from actors.envelope import Done, Envelope, Outcome
from actors.errors import Overloaded, Unavailable
from eventstore.errors import StoreUnavailable
from rayfold.runtime.batching import Batcher, BatchFull
from rayfold.runtime.rpc import Address, RpcClient, RpcDisconnected, RpcServerFailed

log = logging.getLogger(__name__)

ATTEMPT_TIMEOUT = 15.0
"""Seconds that a batch of commands waits for an actor's answer at most."""

MAX_BATCH = 256
CONCURRENT_BATCHES = 1
"""On their way to an actor at a time. More would overlap, but in smaller batches: slower."""

PATIENCE = 0.5
"""Of a batch's time, for those it answered to send their next: 8 to 17 % less CPU a write."""

MAX_QUEUE = 2048
"""Commands that may wait for their turn to travel."""


class HostClient:
    """The way to one host actor, which may die and come back meanwhile."""

    def __init__(self, make: Callable[[], Any]) -> None:
        """`make` gives the actor's handle: makes the actor unless it is there already."""
        self._make = make
        self.actor = make()
        self.used_at = time.monotonic()
        self.outstanding = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._rpc = RpcClient(self._address)
        self._batcher: Batcher[Envelope, Outcome] = Batcher(
            self._send,
            max_batch=MAX_BATCH,
            max_queue=MAX_QUEUE,
            in_flight=CONCURRENT_BATCHES,
            patience=PATIENCE,
        )

    async def send(self, envelope: Envelope) -> Outcome:
        """Return the command's outcome; `Overloaded` at once if too many wait already."""
        with self._counted():
            try:
                return await self._batcher.call(envelope)
            except BatchFull:
                return Overloaded()

    async def delete_stream(self, stream: str, *, tombstone: bool) -> None:
        """Delete a stream of which the host is the writer; see `Host.delete`.

        Raises:
            Unavailable: no answer; it may have been deleted.
        """
        with self._counted():
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT):
                    await self.actor.delete_stream.remote(stream, tombstone)
            except (RayError, StoreUnavailable, TimeoutError) as error:
                raise Unavailable(f"{stream} may or may not be deleted: {error}") from error

    async def idle(self) -> None:
        """Wait until every command that was sent has its answer."""
        await self._idle.wait()

    async def close(self) -> None:
        """Give up what waits."""
        await self._batcher.close()
        self._rpc.close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.used_at = time.monotonic()
        self.outstanding += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.outstanding -= 1
            if not self.outstanding:
                self._idle.set()

    async def _address(self) -> Address:
        address: Address = await self.actor.address.remote()
        return address

    async def _send(self, batch: list[Envelope]) -> list[Outcome]:
        """Return the actor's answers; one that died is asked again, as command ids make that safe.

        The command bus tells each caller when its own deadline has passed.
        """
        deadline = min(time.monotonic() + ATTEMPT_TIMEOUT, max(each.deadline for each in batch))
        while True:
            now = time.monotonic()
            try:
                async with asyncio.timeout(deadline - now):
                    outcomes = await self._rpc.call([each.to_wire(now) for each in batch])
                return [
                    Done(*outcome) if isinstance(outcome, tuple) else outcome
                    for outcome in outcomes
                ]
            except TimeoutError:
                # It may be gone without a word: the next batch asks where it is now.
                self._rpc.close()
                return self._all(batch, "the write host does not answer")
            except (RayActorError, RpcDisconnected) as error:
                log.info("a write host went away", extra={"error": type(error).__name__})
                if time.monotonic() + 0.5 > deadline:
                    return self._all(batch, "the write host does not come back")
                await asyncio.sleep(0.2)
                if isinstance(error, ActorDiedError):
                    # For good: no restart will bring this handle back to life. The name may
                    # still lead to the dead one for a while (ray#44083), then to a new one.
                    self.actor = self._make()
            except (RayError, RpcServerFailed) as error:
                log.warning("a batch of commands failed", extra={"error": repr(error)})
                return self._all(batch, f"the write host failed: {type(error).__name__}")

    def _all(self, batch: list[Envelope], detail: str) -> list[Outcome]:
        return [Unavailable(detail) for _ in batch]
