"""Deliveries to a receiver: limited in number, each traced, some retried."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from eventstore.errors import StoreUnavailable
from projections.errors import named
from projections.publications.errors import NotDelivered
from projections.publications.outgoing import Outgoing
from projections.publications.receiver import Receiver
from projections.publications.settings import Patience
from rayfold.runtime.tracing import Tracing, is_sampled, tracing

log = logging.getLogger(__name__)

REPLAY_TRIES = 3
"""Attempts at an event that is sent again, before its key is left parked."""

PROMPT = 1.0
"""Seconds after reading in which an event is delivered as it was read."""

AsOfNow = Callable[[Outgoing], Awaitable[Outgoing | None]]


class Deliveries:
    """The deliveries of one publication, over this number of `connections`."""

    def __init__(
        self,
        publication: str,
        receiver: Receiver,
        patience: Patience,
        connections: int,
        as_of_now: AsOfNow,
    ) -> None:
        """`as_of_now` derives an event again that has personal data and has waited.

        A person may have been forgotten since.
        """
        self.taken = 0
        """Events that the receiver has accepted."""
        self._publication = publication
        self._receiver = receiver
        self._patience = patience
        self._delivering = asyncio.Semaphore(connections)
        self._personal = asyncio.Semaphore(connections)
        """Keys whose receiver does not answer delay other events with personal data, but take no
        connections.
        """
        self._as_of_now = as_of_now
        self._tracing = tracing()

    async def deliver(self, outgoing: Outgoing, *, late: bool = False) -> None:
        """Return once the receiver has accepted it, or it no longer exists.

        `late`: it has waited already, see the constructor.

        Raises:
            NotDelivered: it has not accepted it.
            StoreUnavailable: it has waited, and its current content is unknown.
        """
        try:
            async with self._personal if outgoing.personal else nullcontext():
                found = await self._not_stale(outgoing, late)
                async with self._delivering:  # this may take long, as others wait for answers
                    found = found and await self._not_stale(found)
                    if found is None:
                        return
                    if self._tracing is not None and is_sampled(found.traceparent):
                        await self._deliver_traced(self._tracing, found)
                    else:
                        await self._receiver.deliver(found)
        except (NotDelivered, StoreUnavailable):
            raise
        except Exception as error:  # a bug of ours or of a client's: it affects this key only
            about = {"publication": self._publication, "key": outgoing.key}
            log.exception("a delivery broke", extra=about)
            raise NotDelivered(named(error)) from error
        self.taken += 1

    async def _not_stale(self, outgoing: Outgoing, late: bool = False) -> Outgoing | None:
        late = late or time.monotonic() - outgoing.read > PROMPT
        return await self._as_of_now(outgoing) if late and outgoing.personal else outgoing

    async def _deliver_traced(self, traces: Tracing, outgoing: Outgoing) -> None:
        about = {
            "rayfold.publication": self._publication,
            "messaging.message.id": outgoing.id,
            "rayfold.key": outgoing.key,
        }
        span = traces.begin(
            f"publish {outgoing.name}", outgoing.traceparent, kind="producer", attributes=about
        )
        try:
            await self._receiver.deliver(outgoing._replace(traceparent=span.traceparent))
        except BaseException as error:
            span.end(error)
            raise
        span.end()

    async def in_order(self, each: list[Outgoing]) -> tuple[int, str]:
        """Deliver events of one key; return how many were accepted, and why not the next.

        Raises:
            StoreUnavailable: the current content of one of them is unknown.
        """
        for index, outgoing in enumerate(each):
            pause, tries = self._patience.first_pause, 0
            while True:
                try:
                    await self.deliver(outgoing, late=tries > 0)
                    break
                except (NotDelivered, StoreUnavailable) as error:
                    tries += 1
                    if tries == REPLAY_TRIES:
                        if isinstance(error, StoreUnavailable):
                            raise  # the caller waits for an answer, and others for their turn
                        return index, error.reason
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause *= 2
        return len(each), ""

    async def close(self) -> None:
        """Close the connections."""
        await self._receiver.close()
