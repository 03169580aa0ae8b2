"""A competing consumer in a process of its own: the Ray shell around `Consumer`."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.personal.opening import open_log, opener_of
from projections.competing.consumer import Consumer
from projections.errors import UnknownTarget
from projections.parked_pages import Asked
from projections.supervision.actor_work import NICENESS, ActorWork
from projections.supervision.membership import Membership
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part

LOOK = 0.05
"""Seconds between two checks of the table while a caller waits for it."""


class ConsumerActor:
    """Runs as a Ray actor. A restarted one joins its group again."""

    def __init__(
        self, domain: str, eventstore: str, dsn: str, identity: Identity, view: str
    ) -> None:
        os.nice(NICENESS)
        begin_part(f"competing:{view}")
        collect_rarely()
        registry = load_domain(domain, identity.tenants)
        identity.check_domain(registry)
        log = open_log(eventstore, registry, dsn)
        groups = PersistentSubscriptions(eventstore, opener_of(log))
        membership = Membership(identity, log, dsn)
        self._consumer = Consumer(registry, log, groups, dsn, registry.views[view])
        self._work = ActorWork(membership, self._consumer.run, groups, log)

    async def reached(self, position: int, timeout: float) -> int:
        """Return the table's position once it is at `position`, or after `timeout` seconds."""
        consumer = self._running()
        until = time.monotonic() + timeout
        # It knows its own acknowledgements at once; those of others it has to poll.
        while await consumer.look() < position and time.monotonic() < until:
            await consumer.progress.reached(position, LOOK)
        return consumer.progress.position

    async def parked(self, *asked: Any) -> list[tuple[Any, ...]]:
        """See `Asked.of`, for the table; returns plain tuples."""
        page = Asked(*asked)
        return [tuple(parked) for parked in page.of(await self._running().parked(page))]

    async def replay(self, view: str, key: str) -> bool:
        """See `Deduplication.replay`; `view` is the consumer's own."""
        return await self._running().replay(key)

    async def replay_all(self, view: str, keys: list[str]) -> None:
        """See `ActorHandle.replay_all`."""
        for key in keys:
            with suppress(UnknownTarget):
                await self._running().replay(key)

    async def rejoin(self) -> None:
        """See `Consumer.rejoin`."""
        self._running().rejoin()

    async def status(self) -> dict[str, Any]:
        """Return its status for operators."""
        return {**await self._work.process_status(), **await self._consumer.status()}

    async def stop(self) -> None:
        """Leave the group; unacknowledged events go to the others."""
        await self._work.stop()

    def _running(self) -> Consumer:
        self._work.begin()
        return self._consumer
