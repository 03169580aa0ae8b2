"""A publication in a process of its own: the Ray shell around `Publisher`."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from eventstore.personal.opening import open_log
from projections.publications.publisher import Publisher
from projections.publications.receiver import receiver_of
from projections.publications.settings import Configured
from projections.stores.projector_actor import NICENESS
from projections.supervision.membership import Membership
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part, end_part, process_status


class PublicationActor:
    """Runs as a Ray actor. A restarted one goes on from its last checkpoint."""

    def __init__(
        self,
        domain: str,
        eventstore: str,
        identity: Identity,
        name: str,
        configured: Configured,
        keys: str = "",
    ) -> None:
        """`keys` is a DSN of where those are of personal data."""
        os.nice(NICENESS)
        begin_part(f"publication:{name}")
        collect_rarely()
        self._registry = load_domain(domain, identity.tenants)
        identity.check_domain(self._registry)
        self._definition = self._registry.publications[name]
        self._store = open_log(eventstore, self._registry, keys)
        self._membership = Membership(identity, self._store, None)
        self._configured = configured
        self._publisher: Publisher | None = None
        self._working: asyncio.Task[None] | None = None

    async def status(self, *_: Any) -> dict[str, Any]:
        """For operators."""
        await self._membership.check()
        return {
            **process_status(),
            "made_with": self._configured.digest,
            **self._running().status(),
        }

    async def parked_keys(self) -> list[dict[str, Any]]:
        """Return what is parked, the first in the log first."""
        found = sorted(self._running().parked.values(), key=lambda each: each.position)
        return [
            {
                "publication": self._definition.name,
                "key": each.key,
                "stream": each.stream,
                "revision": each.revision,
                "position": each.position,
                "error": each.error,
                "since": each.at,
            }
            for each in found
        ]

    async def retry(self, key: str | None) -> dict[str, int]:
        """See `Publisher.retry`."""
        return await self._running().retry(key)

    async def replay(self, after: int, until: int, key: str | None) -> dict[str, int]:
        """See `Publisher.replay`."""
        return await self._running().replay(after, until, key)

    async def stop(self) -> None:
        """Stop where it is; what is on its way is sent again by the next."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working], timeout=4)
        await self._store.close()
        await end_part()

    def _running(self) -> Publisher:
        # Not in `__init__`: Ray runs that outside of the loop that the clients must live on.
        if self._publisher is None or self._working is None:
            target = self._configured.target
            self._publisher = Publisher(
                self._registry,
                self._definition,
                self._store,
                receiver_of(target),
                source=self._configured.source,
                patience=self._configured.patience,
                connections=target.connections,
            )
            self._working = asyncio.create_task(self._run(self._publisher))
        return self._publisher

    async def _run(self, publisher: Publisher) -> None:
        await self._membership.confirmed()
        await publisher.run()
