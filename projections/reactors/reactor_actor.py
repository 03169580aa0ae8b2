"""A consumer of a reactor in a process of its own: the Ray shell around `ReactorRunner`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.personal.opening import open_log, opener_of
from projections.parked_pages import Asked
from projections.reactors.reactor_runner import ReactorRunner
from projections.stores.projector_actor import NICENESS
from projections.supervision.membership import Membership
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part, end_part, process_status


class ReactorActor:
    """Runs as a Ray actor. A restarted one joins its group again."""

    def __init__(
        self,
        domain: str,
        eventstore: str,
        dsn: str,
        identity: Identity,
        name: str,
        group: str,
        began: int,
    ) -> None:
        os.nice(NICENESS)
        begin_part(f"reactor:{name}")
        collect_rarely()
        registry = load_domain(domain, identity.tenants)
        identity.check_domain(registry)
        self._store = open_log(eventstore, registry, dsn)
        self._groups = PersistentSubscriptions(eventstore, opener_of(self._store))
        self._membership = Membership(identity, self._store, dsn)
        self._runner = ReactorRunner(
            registry, registry.reactors[name], self._store, self._groups, group, began, dsn
        )
        self._working: asyncio.Task[None] | None = None

    async def status(self, *_: Any) -> dict[str, Any]:
        """For operators."""
        await self._membership.check()
        return {
            **process_status(),
            **self._running().status(),
        }

    async def parked(self, *asked: Any) -> list[tuple[Any, ...]]:
        """See `Asked.of`; as plain tuples."""
        return [tuple(parked) for parked in Asked(*asked).of(await self._running().parked())]

    async def replay(self, name: str, key: str) -> bool:
        """See `ReactorRunner.replay`; `name` is the reactor's own."""
        return await self._running().replay(key)

    async def discard(self, key: str) -> None:
        """See `ReactorRunner.discard`."""
        await self._running().discard(key)

    async def stop(self) -> None:
        """Leave the group; what is in hand goes to the others."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working], timeout=4)
        await self._groups.close()
        await self._store.close()
        await end_part()

    def _running(self) -> ReactorRunner:
        # Not in `__init__`: Ray runs that outside of the loop that the clients must live on.
        if self._working is None:
            self._working = asyncio.create_task(self._run())
        return self._runner

    async def _run(self) -> None:
        await self._membership.confirmed()
        await self._runner.run()
