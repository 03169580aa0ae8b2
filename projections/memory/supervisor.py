"""The memory replicas: started, scaled by view, copied from peers, restarted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from itertools import count

from projections.errors import ActorUnavailable
from projections.memory.placement import placement_of
from projections.memory.replica_actor import ReplicaActor
from projections.memory.replica_handle import ReplicaHandle
from projections.operations.rebuild import Rebuild
from projections.settings import ReadSettings
from projections.supervision.actor_handle import answering
from projections.supervision.placements import Placements
from projections.supervision.spawning import Spawner
from rayfold import Registry

log = logging.getLogger(__name__)


class MemorySupervisor:
    """Keeps as many replicas of each view as are wanted."""

    def __init__(self, registry: Registry, settings: ReadSettings, placements: Placements) -> None:
        self._settings = settings
        self._placements = placements
        self._numbers = count()
        views = [view.name for view in registry.views.values() if "memory" in view.stores]
        self.wanted = {view: settings.number("memory", view) for view in views}

    async def start(self) -> None:
        """Start the replicas.

        Raises:
            ActorUnavailable: one does not come up.
        """
        replicas = [self._replica(views) for views in placement_of(self.wanted)]
        self._placements.replicas = replicas
        await answering(replicas)
        await self.start_restarted()

    async def scale(self, views: Sequence[str], number: int) -> None:
        """Set how often these views are held. Queries go on meanwhile.

        Raises:
            ActorUnavailable: new replicas do not get ready; the old ones stay.
        """
        wanted = self.wanted | dict.fromkeys(views, number)
        kept: list[ReplicaHandle] = []
        new: list[ReplicaHandle] = []
        present = self._placements.replicas
        for at, held in enumerate(placement_of(wanted)):
            if at < len(present) and present[at].views == held:
                kept.append(present[at])
            else:
                new.append(self._replica(held))
        if new:
            await answering(new)
            # Known before they are ready, asked only from then on.
            self._placements.replicas = [*present, *new]
            try:
                await self.start_restarted()
                for replica in new:
                    await replica.until_ready()
            except ActorUnavailable:
                self._placements.replicas = present
                await asyncio.gather(*(replica.end() for replica in new))
                raise
        self.wanted = wanted
        self._placements.replicas = sorted([*kept, *new], key=lambda each: -len(each.views))
        for replica in present:
            if replica not in kept:
                await replica.idle()
                await replica.end()

    async def start_restarted(self) -> None:
        """Let new and restarted ones begin: with a copy of a peer that is ready, where one is."""
        for replica in list(self._placements.replicas):
            if replica.seen.get("started") is not False:
                continue  # it has begun, or does not answer
            peers = [
                peer
                for peer in self._placements.replicas
                if peer.ready and peer is not replica and set(peer.views) >= set(replica.views)
            ]
            peer = min(peers, key=lambda each: each.open, default=None)
            try:
                await replica.start(peer)
            except ActorUnavailable as error:
                log.info("a replica did not start", extra={"actor": replica.name, "error": error})

    async def rebuild(self, rebuild: Rebuild) -> None:
        """Fold the view again in one replica after the other; each serves meanwhile.

        Raises:
            ActorUnavailable: not done, in one of them.
        """
        for replica in self._placements.replicas_of(rebuild.view):
            folding = asyncio.ensure_future(replica.rebuild(rebuild.view))
            while not folding.done():
                await asyncio.wait([folding], timeout=0.2)
                done = replica.seen.get("rebuilding", {}).get(rebuild.view)
                if done is not None:
                    rebuild.moved(*done)
            try:
                await folding
            except ActorUnavailable:
                if replica in self._placements.replicas:  # else it left meanwhile
                    raise

    async def stop(self) -> None:
        """End all replicas."""
        await asyncio.gather(*(replica.end() for replica in self._placements.replicas))

    def _replica(self, views: Sequence[str]) -> ReplicaHandle:
        settings = self._settings
        of = "all" if len(views) == len(self.wanted) else "+".join(views)
        name = f"memory:{of}#{next(self._numbers)}"
        arguments = name, settings.domain, list(views), settings.eventstore, settings.postgres
        spawn = Spawner(ReplicaActor, "memory", name, settings, *arguments)
        return ReplicaHandle(name, views, spawn, spawn.place)
