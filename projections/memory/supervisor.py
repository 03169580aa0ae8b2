"""The memory replicas: started, scaled by view, copied from peers, restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import count

from ray.exceptions import RayError

from projections.errors import ProjectionError
from projections.memory.placement import placement_of
from projections.memory.reader import MemoryReader, ReplicaClient
from projections.memory.replica_actor import ReplicaActor
from projections.operations.rebuild import Rebuild
from projections.settings import ReadSettings
from projections.supervision.spawning import answering, end, ready, spawn
from rayfold import Registry

log = logging.getLogger(__name__)


class MemorySupervisor:
    """Keeps `reads` supplied with replicas."""

    def __init__(self, registry: Registry, settings: ReadSettings, reads: MemoryReader) -> None:
        self._settings = settings
        self._reads = reads
        self._numbers = count()
        views = [view.name for view in registry.views.values() if "memory" in view.stores]
        self.wanted = dict.fromkeys(views, settings.memory_replicas)

    @property
    def parts(self) -> list[ReplicaClient]:
        """All replicas."""
        return self._reads.replicas

    async def start(self) -> None:
        """Raises `ProjectionError` if a replica does not come up."""
        self._reads.replicas = [self._replica(views) for views in placement_of(self.wanted)]
        await answering(self.parts)
        await self.start_restarted()

    async def scale(self, views: Sequence[str], number: int) -> None:
        """Sets how often these views are held. Queries go on meanwhile.

        Raises:
            ProjectionError: new replicas do not get ready; the old ones stay.
        """
        wanted = self.wanted | dict.fromkeys(views, number)
        kept: list[ReplicaClient] = []
        new: list[ReplicaClient] = []
        present = self.parts
        for layer, held in enumerate(placement_of(wanted)):
            if layer < len(present) and present[layer].views == held:
                kept.append(present[layer])
            else:
                new.append(self._replica(held))
        if new:
            await answering(new)
            # Known before they are ready, asked only from then on.
            self._reads.replicas = [*present, *new]
            try:
                await self.start_restarted()
                for replica in new:
                    await ready(replica)
            except ProjectionError:
                self._reads.replicas = present
                await asyncio.gather(*(end(replica) for replica in new))
                raise
        self.wanted = wanted
        # In the order of their layers: those with the most views come first.
        self._reads.replicas = sorted([*kept, *new], key=lambda each: -len(each.views))
        for replica in present:
            if replica not in kept:
                await replica.idle()
                await end(replica)

    async def start_restarted(self) -> None:
        """New and restarted ones begin: with a copy of a peer that is ready, where one is."""
        for replica in list(self.parts):
            if replica.seen.get("started"):
                continue
            peers = [
                peer
                for peer in self.parts
                if peer.ready and peer is not replica and set(peer.views) >= set(replica.views)
            ]
            peer = min(peers, key=lambda each: each.open, default=None)
            try:
                await replica.actor.start.remote(peer.actor if peer else None)
            except RayError as error:
                log.info("%s did not start: %r", replica.name, error)

    async def rebuild(self, rebuild: Rebuild) -> None:
        """Folds the view afresh in one replica after the other; each serves meanwhile.

        Raises:
            ProjectionError: not done, in one of them.
        """
        for replica in self._reads.of(rebuild.view):
            folding = asyncio.ensure_future(replica.actor.rebuild.remote(rebuild.view))
            while not folding.done():
                await asyncio.wait([folding], timeout=0.2)
                done = replica.seen.get("rebuilding", {}).get(rebuild.view)
                if done is not None:
                    rebuild.moved(*done)
            try:
                await folding
            except RayError as error:
                if replica in self.parts:  # else it left meanwhile
                    raise ProjectionError(f"{replica.name} did not do it: {error!r}") from error

    async def stop(self) -> None:
        """Ends all replicas."""
        await asyncio.gather(*(end(replica) for replica in self.parts))

    def _replica(self, views: Sequence[str]) -> ReplicaClient:
        settings = self._settings
        of = "all" if len(views) == len(self.wanted) else "+".join(views)
        name = f"memory:{of}#{next(self._numbers)}"
        actor = spawn(
            ReplicaActor,
            name,
            settings.namespace,
            name,
            settings.domain,
            list(views),
            settings.eventstore,
            settings.postgres,
        )
        return ReplicaClient(name, views, actor)
