"""A publication in a process of its own: the Ray shell around `Publisher`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from eventstore.personal.opening import open_log
from projections.publications.publisher import Publisher
from projections.publications.receiver import receiver_of
from projections.publications.settings import Configured
from projections.supervision.actor_work import NICENESS, ActorWork
from projections.supervision.membership import Membership
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part


class PublicationActor:
    """Runs as a Ray actor. A restarted one continues from its last checkpoint."""

    def __init__(
        self,
        domain: str,
        eventstore: str,
        identity: Identity,
        name: str,
        configured: Configured,
        keys: str = "",
    ) -> None:
        """`keys` is the DSN of the keys of personal data."""
        os.nice(NICENESS)
        begin_part(f"publication:{name}")
        collect_rarely()
        registry = load_domain(domain, identity.tenants)
        identity.check_domain(registry)
        log = open_log(eventstore, registry, keys)
        self._made_with = configured.digest
        self._publisher = Publisher(
            registry,
            registry.publications[name],
            log,
            receiver_of(configured.target),
            source=configured.source,
            patience=configured.patience,
            connections=configured.target.connections,
        )
        membership = Membership(identity, log, None)
        self._work = ActorWork(membership, self._publisher.run, log)

    async def status(self, *_: Any) -> dict[str, Any]:
        """Return its status for operators."""
        return {
            **await self._work.process_status(),
            "made_with": self._made_with,
            **self._publisher.status(),
        }

    async def parked_keys(self, after: Sequence[Any], limit: int) -> tuple[int, list[Any]]:
        """Return the number of parked keys, and a page of them: see `ParkedKeys.page`."""
        parked = self._running().parked
        return len(parked), parked.page(after, limit)

    async def parked_under(self, lanes: Sequence[str]) -> list[Any]:
        """See `ParkedKeys.under`."""
        return self._running().parked.under(lanes)

    async def retry(self, key: str | None) -> dict[str, int]:
        """See `Publisher.retry`."""
        return await self._running().retry(key)

    async def replay(self, after: int, until: int, key: str | None) -> dict[str, int]:
        """See `Publisher.replay`."""
        return await self._running().replay(after, until, key)

    async def stop(self) -> None:
        """Stop; events in progress are sent again by the next process."""
        await self._work.stop()

    def _running(self) -> Publisher:
        self._work.begin()
        return self._publisher
