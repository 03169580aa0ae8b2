"""A competing consumer in a process of its own: the Ray shell around `Consumer`."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.personal.opening import open_log, opener_of
from projections.competing.consumer import Consumer
from projections.parked_pages import Asked
from projections.stores.projector_actor import NICENESS
from projections.supervision.membership import Membership
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part, end_part, process_status

LOOK = 0.05
"""Seconds between two looks at the table while somebody waits for it."""


class ConsumerActor:
    """Runs as a Ray actor. A restarted one joins its group again."""

    def __init__(
        self, domain: str, eventstore: str, dsn: str, identity: Identity, view: str
    ) -> None:
        os.nice(NICENESS)
        begin_part(f"competing:{view}")
        collect_rarely()
        registry = load_domain(domain, identity.tenants)
        self._store = open_log(eventstore, registry, dsn)
        self._groups = PersistentSubscriptions(eventstore, opener_of(self._store))
        identity.check_domain(registry)
        self._membership = Membership(identity, self._store, dsn)
        declared = registry.views[view]
        self._consumer = Consumer(registry, self._store, self._groups, dsn, declared)
        self._working: asyncio.Task[None] | None = None

    async def reached(self, position: int, timeout: float) -> int:
        """Where the table is, once it is at `position` or `timeout` seconds have passed."""
        consumer = self._running()
        until = time.monotonic() + timeout
        # By its own acknowledgements it is told at once; of others' it has to look.
        while await consumer.look() < position and time.monotonic() < until:
            await consumer.progress.reached(position, LOOK)
        return consumer.progress.position

    async def parked(self, *asked: Any) -> list[tuple[Any, ...]]:
        """See `Asked.of`, of the table; as plain tuples."""
        return [tuple(parked) for parked in Asked(*asked).of(await self._running().parked())]

    async def replay(self, view: str, key: str) -> bool:
        """See `Deduplication.replay`; `view` is the consumer's own."""
        return await self._running().replay(key)

    async def rejoin(self) -> None:
        """See `Consumer.rejoin`."""
        self._running().rejoin()

    async def status(self) -> dict[str, Any]:
        """For operators."""
        await self._membership.check()
        return {
            **process_status(),
            **await self._running().status(),
        }

    async def stop(self) -> None:
        """Leave the group; what is in hand goes to the others."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working], timeout=4)
        await self._groups.close()
        await self._store.close()
        await end_part()

    def _running(self) -> Consumer:
        # Not in `__init__`: Ray runs that outside of the loop that the client must live on.
        if self._working is None:
            self._working = asyncio.create_task(self._run())
        return self._consumer

    async def _run(self) -> None:
        await self._membership.confirmed()
        await self._consumer.run()
