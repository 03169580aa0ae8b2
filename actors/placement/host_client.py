"""The client of a host actor: takes single commands, sends batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from actors.envelope import Done, Envelope, Outcome
from actors.errors import Overloaded, Unavailable, WriteSideError
from actors.host.assignment import Term
from actors.placement.host_link import STATUS_TIMEOUT, HostLink
from actors.placement.sent_batch import SentBatch
from eventstore.errors import StoreUnavailable
from rayfold.runtime.batching import Batcher, BatchFull
from rayfold.runtime.controller_rpc import ControllerUnavailable
from rayfold.runtime.placing import Anywhere, Placed
from rayfold.runtime.rpc import Part, RpcDisconnected, RpcServerFailed

log = logging.getLogger(__name__)

ATTEMPT_TIMEOUT = 15.0
"""Seconds that a batch of commands waits for an actor's answer at most."""

LONG_AGO = 5.0
"""Seconds without a command after which a host's silence is ignored."""

MAX_BATCH = 256
CONCURRENT_BATCHES = 1
"""Batches in progress to an actor at a time. More would overlap, but in smaller batches: slower."""

PATIENCE = 0.5
"""Share of a batch's duration to wait for more commands, as callers that it answered send their
next ones: saves 8 to 17 % CPU per write.
"""

MAX_NOTES = 10_000
"""The most streams whose changes are reported to a host with one batch."""

MAX_QUEUE = 2048
"""Commands that may wait to be sent."""

MAX_OUTSTANDING = MAX_QUEUE + MAX_BATCH
"""Commands without an outcome, including those of slow batches that others do not wait for."""


class Moved(WriteSideError):
    """The stream's shard has moved to another host; it is safe to send the command there."""


class HostClient(HostLink):
    """Sends commands to one host, and sends them again to its replacement if it died."""

    def __init__(
        self,
        find: Callable[[], Awaitable[Any]],
        on_silence: Callable[[HostClient], None] | None = None,
        place: Placed | None = None,
    ) -> None:
        """`find` returns the actor's handle; an owner's creates the actor if it does not exist.

        `on_silence` is called when the actor no longer responds. `place` is where the actor is
        created.
        """
        super().__init__(find, partial(on_silence, self) if on_silence else lambda: None)
        self.place = place or Placed(Anywhere(), "", "", "")
        self._handed_over = False
        self._leaving = False
        self._term: Term = (0, 0)
        self._shards: dict[int, int] = {}
        self._shown = False
        self._written: dict[str, int] = {}
        """By stream: the revision up to which decisions of other hosts have written to it."""
        self.used_at = self.heard_at
        self.outstanding = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._attempts: set[asyncio.Task[Any]] = set()
        self._asking: set[asyncio.Task[None]] = set()
        self._batcher: Batcher[Envelope, Outcome] = Batcher(
            self._send,
            max_batch=MAX_BATCH,
            max_queue=MAX_QUEUE,
            in_flight=CONCURRENT_BATCHES,
            patience=PATIENCE,
        )

    async def send(self, envelope: Envelope) -> Outcome:
        """Return the command's outcome; `Overloaded` at once if too many commands wait already.

        A command without an outcome gets `Moved` if the host's shards move, or the host ends.
        """
        if self.outstanding >= MAX_OUTSTANDING:
            return Overloaded()
        with self._counted():
            try:
                return await self._batcher.call(envelope)
            except BatchFull:
                return Overloaded()

    async def delete_stream(self, stream: str, *, tombstone: bool) -> bool:
        """Delete a stream that the host writes; see `Host.delete`.

        Raises:
            Unavailable: no answer; the stream may have been deleted.
        """
        with self._counted():
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT):
                    actor = await self.actor()
                    return bool(await actor.delete_stream.remote(stream, tombstone))
            except (RayError, RpcDisconnected, StoreUnavailable, TimeoutError) as error:
                raise Unavailable(f"{stream} may or may not be deleted: {error}") from error

    async def forget(self, stream: str) -> None:
        """Make the host fold a stream again; a host that is away has lost its state anyway."""
        with suppress(RayError, RpcDisconnected, TimeoutError):
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                actor = await self.actor()
                await actor.forget.remote(stream)

    async def forget_personal(self, subjects: list[str]) -> None:
        """Make the host fold again every aggregate that may hold data of these persons.

        Raises:
            Unavailable: the host may not have done it.
        """
        await self._do("forget_personal", subjects)

    async def refill(self, stream: str) -> None:
        """Make the host rewrite the row of a state-stored aggregate; see `Writers.refill`.

        Raises:
            Unavailable: the host may not have done it.
        """
        await self._do("refill", stream)

    async def _do(self, method: str, *arguments: Any) -> None:
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT):
                actor = await self.actor()
                await getattr(actor, method).remote(*arguments)
        except (RayError, RpcDisconnected, TimeoutError) as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            asked = f"{method} {arguments}"
            raise Unavailable(f"a host may not have done {asked}: {cause!r}") from error

    async def outcome(self, command_id: str) -> tuple[str, Outcome | None] | None:
        """Return a command's stream and outcome if the host is there and remembers it."""
        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                actor = await self.actor()
                found = await actor.outcome.remote(command_id)
        except (RayError, RpcDisconnected, TimeoutError):
            return None
        if found is None:
            return None
        stream, outcome = found
        return stream, Done(*outcome) if isinstance(outcome, tuple) else outcome

    def renew(self) -> None:
        """Find or create the actor again, and send it the commands that have no answer yet."""
        super().renew()
        for attempt in self._attempts:
            attempt.cancel()

    def hand_over(self) -> None:
        """Send the host no more commands: other hosts have its shards."""
        self._handed_over = True
        for attempt in self._attempts:
            attempt.cancel()

    def show(self, term: Term, shards: dict[int, int]) -> None:
        """Record a newer table, to be sent to the host: its shards, and since which version."""
        self._term, self._shards, self._shown = term, shards, False
        self._handed_over = False

    def note(self, stream: str, revision: int) -> None:
        """Tell the host with the next batch that another host's decision has written to a stream.

        This is a hint, which may be lost: the host would then learn of it by a conflict.
        """
        if len(self._written) < MAX_NOTES or stream in self._written:
            self._written[stream] = max(revision, self._written.get(stream, -1))

    def leave(self) -> None:
        """Send unanswered commands to another host: this one is about to end."""
        self._leaving = True

    async def idle(self) -> None:
        """Wait until every command that was sent has an answer."""
        await self._idle.wait()

    async def close(self) -> None:
        """Give up waiting commands and the actor, which is no longer called."""
        await self._batcher.close()
        for asking in self._asking:
            asking.cancel()
        # A client is part of reference cycles, which are collected rarely. Until then, its handle
        # would make Ray keep the data of an ended actor.
        self.lose()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        now = time.monotonic()
        if not self.outstanding and now - self.used_at > LONG_AGO:
            self._begin_silence()  # no command waited before
        self.used_at = now
        self.outstanding += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.outstanding -= 1
            if not self.outstanding:
                self._idle.set()

    async def _send(self, batch: list[Envelope]) -> list[Outcome | asyncio.Future[Outcome]]:
        """Return the actor's outcomes; futures for those that take longer than the others."""
        sent = SentBatch(batch)
        asking = asyncio.create_task(self._settle(sent))
        self._asking.add(asking)
        asking.add_done_callback(partial(self._asked, sent))
        try:
            return await sent.answers()
        except asyncio.CancelledError:
            asking.cancel()
            raise

    def _asked(self, sent: SentBatch, asking: asyncio.Task[None]) -> None:
        self._asking.discard(asking)
        if asking.cancelled():
            sent.settle_left(Unavailable("this gateway has released the write host"))
        elif (error := asking.exception()) is not None:
            sent.fail(error)
        sent.go_on()

    async def _settle(self, sent: SentBatch) -> None:
        """Get outcomes from the actor; after a restart, ask again for those that are missing.

        Command ids make that safe. The command bus enforces each caller's own deadline.
        """
        deadline = max(each.deadline for each in sent.left.values())
        while not self._handed_over and (left := sent.left):
            began = time.monotonic()
            try:
                await self._ask(sent, left, began, min(ATTEMPT_TIMEOUT, deadline - began))
            except TimeoutError:
                sent.unanswered()
                if self.heard_at < began:
                    # It may be gone without notice: the next attempt looks it up again.
                    self._rpc.close()
                if time.monotonic() + 0.5 > deadline:
                    sent.settle_left(Unavailable("the write host does not answer"))
            except WriteSideError as error:  # no actor can be created
                sent.settle_left(error)
            except (RayActorError, RpcDisconnected, ControllerUnavailable) as error:
                sent.unanswered()
                log.info("a write host went away", extra={"error": type(error).__name__})
                self._went_away(for_good=isinstance(error, ActorDiedError))
                if self._handed_over or self._leaving:
                    break
                if time.monotonic() + 0.5 > deadline:
                    sent.settle_left(Unavailable("the write host does not come back"))
                    return
                await asyncio.sleep(0.2)
            except (RayError, RpcServerFailed) as error:
                log.warning("a batch of commands failed", extra={"error": repr(error)})
                sent.settle_left(Unavailable(f"the write host failed: {type(error).__name__}"))
        sent.settle_left(Moved())

    async def _ask(
        self, sent: SentBatch, left: dict[int, Envelope], now: float, timeout: float
    ) -> None:
        """Get the remaining outcomes of a batch.

        Raises:
            TimeoutError: some are missing after so many seconds.
            RpcDisconnected: no answer, as the actor ended or was replaced.
            RpcServerFailed, RayError: see `RpcClient.call`.
        """
        places = list(left)
        commands = [each.to_wire(now) for each in left.values()]

        def part(outcomes: list[tuple[int, Any]]) -> None:
            for at, outcome in outcomes:
                sent.settle(places[at], _read(outcome))
            self._heard()
            sent.go_on()

        async def exchanged() -> list[Any]:
            await self._rpc.connect()
            sent.goes_out()
            return await self._exchange(commands, part)

        attempt = asyncio.create_task(exchanged())
        self._attempts.add(attempt)
        try:
            await asyncio.wait([attempt], timeout=timeout)
            if not attempt.done():
                raise TimeoutError
            if attempt.cancelled():
                raise RpcDisconnected("the write host was replaced")
            for place, outcome in zip(places, attempt.result(), strict=True):
                sent.settle(place, _read(outcome))
            self._heard()
        finally:
            self._attempts.discard(attempt)
            attempt.cancel()

    async def _greet(self) -> None:
        await self._exchange([], lambda _: None)

    async def _exchange(self, batch: list[tuple[Any, ...]], part: Part) -> list[Any]:
        """Return the outcomes; send the host the table if it has not seen it."""
        while True:
            term, shards = self._term, None if self._shown else self._shards
            written, self._written = self._written, {}
            request = term, shards, batch, written
            outcomes: list[Any] | None = None
            try:
                outcomes = await self._rpc.call(request, part)
            finally:
                if outcomes is None:  # it was not sent, or none is known
                    self._written = written | self._written
            self._was_connected = True
            if term == self._term:
                self._shown = outcomes is not None
            if outcomes is not None:
                return outcomes


def _read(outcome: Any) -> Outcome:
    read: Outcome = Done(*outcome) if isinstance(outcome, tuple) else outcome
    return read


async def outcome_of(
    command_id: str, clients: Sequence[HostClient]
) -> tuple[str, Outcome | None] | None:
    """Return a command's stream and outcome if one of the hosts remembers it.

    For callers that did not send it: another gateway may have, which may be gone.
    """
    found = await asyncio.gather(*(client.outcome(command_id) for client in clients))
    known = [each for each in found if each is not None]
    # If the shard has moved, another host may have refused the command or still have it in
    # progress.
    known.sort(key=lambda each: (isinstance(each[1], Done), each[1] is not None))
    return known[-1] if known else None
