"""The memory replicas: started, scaled by view, copied from peers, restarted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from itertools import count

from projections.errors import ActorUnavailable
from projections.memory.placement import placement_of
from projections.memory.replica_actor import ReplicaActor
from projections.memory.replica_handle import ReplicaHandle
from projections.memory.restarted import start_restarted
from projections.operations.rebuild import Rebuild
from projections.settings import ReadSettings
from projections.supervision.actor_handle import LOOK, READY, START, answering
from projections.supervision.placements import Placements
from projections.supervision.spawning import Spawner
from rayfold import Registry
from rayfold.runtime.together import all_done, cancel


class MemorySupervisor:
    """Keeps the wanted number of replicas of each view."""

    def __init__(self, registry: Registry, settings: ReadSettings, placements: Placements) -> None:
        self._settings = settings
        self._placements = placements
        views = [view.name for view in registry.views.values() if "memory" in view.stores]
        self.wanted = {view: settings.number("memory", view) for view in views}

    async def start(self) -> None:
        """Start the replicas.

        Raises:
            ActorUnavailable: a replica does not start.
        """
        replicas: list[ReplicaHandle] = []
        for views in placement_of(self.wanted):
            replicas.append(self._replica(views, replicas))
        self._placements.replicas = replicas
        await answering(replicas, adopted=self._settings.detached)
        await start_restarted(self._placements.replicas)

    async def scale(self, views: Sequence[str], number: int) -> None:
        """Set the number of replicas of these views. Queries go on meanwhile.

        Raises:
            ActorUnavailable: new replicas do not become ready; the old ones stay.
        """
        wanted = self.wanted | dict.fromkeys(views, number)
        kept: list[ReplicaHandle] = []
        new: list[ReplicaHandle] = []
        present = self._placements.replicas
        for held in placement_of(wanted):
            same = [each for each in present if each.views == held and each not in kept]
            if same:
                kept.append(same[0])
            else:
                new.append(self._replica(held, [*present, *new]))
        if new:
            await answering(new)
            # They are known before they are ready, but only queried from then on.
            self._placements.replicas = [*present, *new]
            try:
                await start_restarted(self._placements.replicas)
                for replica in new:
                    await replica.until_ready()
            except BaseException:
                self._placements.replicas = present
                await all_done(*(replica.end() for replica in new))
                raise
        self.wanted = wanted
        self._placements.replicas = sorted([*kept, *new], key=lambda each: -len(each.views))
        await self._placements.published()
        await all_done(*(replica.retire() for replica in present if replica not in kept))

    async def rebuild(self, rebuild: Rebuild) -> None:
        """Rebuild a view in one replica after the other; each goes on serving.

        Replicas that start meanwhile are included: they may have copied from one that was not
        rebuilt yet.

        Raises:
            WouldPark: the new one would serve fewer keys than the live one, which stays.
            ActorUnavailable: one of them was not rebuilt.
        """
        rebuilt = set[str]()
        while (replica := await self._not_in(rebuilt, rebuild.view)) is not None:
            rebuilt.add(replica.seen["incarnation"])
            folding = asyncio.ensure_future(
                replica.rebuild(rebuild.view, accept_parked=rebuild.accept_parked)
            )
            try:
                while not folding.done():
                    await asyncio.wait([folding], timeout=0.2)
                    done = replica.seen.get("rebuilding", {}).get(rebuild.view)
                    if done is not None:
                        rebuild.moved(*done)
                await folding
            except ActorUnavailable:
                if replica in self._placements.replicas:  # otherwise it was removed meanwhile
                    raise
            finally:
                await cancel(folding)

    async def _not_in(self, rebuilt: Collection[str], view: str) -> ReplicaHandle | None:
        """Return a ready replica of the view that is not in `rebuilt`; None if all are.

        A replica that is not ready is waited for: it may be copying, or restarting.

        Raises:
            ActorUnavailable: it does not become ready, or fails while it starts.
        """
        began = answered = time.monotonic()
        while True:
            replicas = self._placements.replicas_of(view)
            await asyncio.gather(*(each.look() for each in replicas))
            left = [each for each in replicas if each.seen.get("incarnation") not in rebuilt]
            ready = [each for each in left if each.ready]
            if ready or not left:
                return ready[0] if ready else None
            if broken := [each for each in left if each.seen.get("broken")]:
                raise ActorUnavailable(f"{broken[0].name}: {broken[0].seen['error']}")
            now = time.monotonic()
            silent = [each for each in left if "incarnation" not in each.seen]
            answered = answered if silent else now
            if now - answered > START:
                raise ActorUnavailable(f"{silent[0].name} does not answer")
            if now - began > READY:
                raise ActorUnavailable(f"{left[0].name} does not come to the log's end")
            await asyncio.sleep(LOOK)

    def _replica(self, views: Sequence[str], others: Sequence[ReplicaHandle]) -> ReplicaHandle:
        """Start a replica, or adopt a running one: the first name that no other has."""
        settings, placements = self._settings, self._placements
        of = "all" if len(views) == len(self.wanted) else "+".join(views)
        taken = {each.name for each in others}
        name = next(name for at in count() if (name := f"memory:{of}#{at}") not in taken)
        where = settings.eventstore, settings.postgres, settings.identity
        arguments = name, settings.domain, list(views), *where, settings.snapshots
        spawn = Spawner(ReplicaActor, "memory", name, settings, *arguments)
        return ReplicaHandle(
            name,
            views,
            spawn,
            spawn.place,
            asker=placements.process,
            in_flight=placements.in_flight,
        )
