"""A consumer of a reactor in a process of its own: the Ray shell around `ReactorRunner`."""

from __future__ import annotations

import os
from typing import Any

from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.personal.opening import open_log, opener_of
from projections.parked_pages import Asked
from projections.reactors.reactor_runner import ReactorRunner
from projections.supervision.actor_work import NICENESS, ActorWork
from projections.supervision.membership import Membership
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part


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
        log = open_log(eventstore, registry, dsn)
        groups = PersistentSubscriptions(eventstore, opener_of(log))
        membership = Membership(identity, log, dsn)
        self._runner = ReactorRunner(
            registry, registry.reactors[name], log, groups, group, began, dsn
        )
        self._work = ActorWork(membership, self._runner.run, groups, log)

    async def status(self, *_: Any) -> dict[str, Any]:
        """Return its status for operators."""
        return {**await self._work.process_status(), **self._runner.status()}

    async def parked(self, *asked: Any) -> list[tuple[Any, ...]]:
        """See `Asked.of`; returns plain tuples."""
        page = Asked(*asked)
        return [tuple(parked) for parked in page.of(await self._running().parked(page))]

    async def replay(self, name: str, key: str) -> bool:
        """See `ReactorRunner.replay`; `name` is the reactor's own."""
        return await self._running().replay(key)

    async def discard(self, key: str) -> None:
        """See `ReactorRunner.discard`."""
        await self._running().discard(key)

    async def stop(self) -> None:
        """Leave the group; unacknowledged events go to the others."""
        await self._work.stop()

    def _running(self) -> ReactorRunner:
        self._work.begin()
        return self._runner
