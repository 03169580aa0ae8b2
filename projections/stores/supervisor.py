"""The projectors of a durable store by view and partition, and the generations of its rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from eventstore.deletions import with_deletions
from eventstore.folded_log import FoldedLog
from eventstore.port import Log
from projections.errors import ReadStoreUnavailable
from projections.newly_parked import NewlyParked
from projections.operations.rebuild import Rebuild
from projections.settings import ReadSettings
from projections.stores import known
from projections.stores.port import Generations, Place, Reached, ReadStore
from projections.stores.projector import Projector
from projections.stores.projector_actor import ProjectorActor
from projections.stores.rebuild import build
from projections.supervision.actor_handle import ActorHandle, answering
from projections.supervision.placements import Placements
from projections.supervision.spawning import projector_actor
from rayfold import OnPoison, RayfoldError, Registry, ViewDefinition
from rayfold.runtime.together import all_done, cancel

log = logging.getLogger(__name__)

CHANGED = "its definition has changed, or its rows are gone"
RESTORED = "the log was restored to an earlier moment"
"""Why the rows of a view are unusable."""

ASKED = 16
"""Views whose positions are read from a store at a time: Postgres allows 100 connections."""

RETRY = 1.0
"""Seconds until another attempt to prepare a store that was away at the start."""


class StoreSupervisor:
    """Keeps the wanted projectors. Views with the same number of partitions share them."""

    def __init__(
        self,
        store: ReadStore,
        registry: Registry,
        settings: ReadSettings,
        placements: Placements,
        log: Log,
    ) -> None:
        self.store = store
        self._folded = FoldedLog(log, with_deletions(registry.prefixes))
        self._settings = settings
        self._placements = placements
        self._views = {
            view.name: view
            for view in registry.views.values()
            if store.name in view.stores and view.delivery == "ordered"
        }
        self.undivided = {
            name for name, view in self._views.items() if view.on_poison is OnPoison.STOP
        }
        """Views that stop as a whole: a single projector folds all of their keys, so that it can do
        so.
        """
        self.wanted = {
            name: 1 if name in self.undivided else settings.number(store.name, name)
            for name in self._views
        }
        self._changing = asyncio.Lock()
        self._preparing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Prepare the store and start projectors. Views with a changed definition are rebuilt.

        So are views that are ahead of the log, which was restored to an earlier moment. That
        happens before projectors start, or later if the store is not required: a store that is
        away, or outdated views, must not delay others.

        Raises:
            ReadStoreUnavailable: the store does not answer, and is required.
            WouldPark: see `ReadSettings.accept_parked`.
            ProjectionError: an actor does not start.
        """
        if self.store.required:
            for view, why in (await self._prepare()).items():
                await self._rebuild_stale(view, why, self._settings.accept_parked)
        else:
            self._preparing = asyncio.create_task(self._prepare_later())
        adopted = self._settings.detached
        projectors = await self._start_projectors(list(self._views), adopted)
        self._placements.keep(self.store.name, projectors)

    async def stop(self) -> None:
        """Stop starting builds, and close connections."""
        await cancel(self._preparing)
        await self.store.close()

    async def _prepare(self) -> dict[str, str]:
        """Prepare the store; return the views whose rows are unusable, and why."""
        generations, views = self.store.generations, list(self._views.values())
        changed = await generations.prepare(views, self.wanted)
        stale = dict.fromkeys((view.name for view in changed), CHANGED)
        others = [view for view in views if view.name not in stale]
        checkpoints: dict[str, int] = {}
        for at in range(0, len(others), ASKED):  # each may use a connection of its own
            some = others[at : at + ASKED]
            positions = await asyncio.gather(*(generations.furthest(view) for view in some))
            checkpoints |= zip((view.name for view in some), positions, strict=True)
        return stale | dict.fromkeys(await self._folded.lacks(checkpoints), RESTORED)

    async def _prepare_later(self) -> None:
        said = False
        while True:
            try:
                stale = await self._prepare()
                break
            except ReadStoreUnavailable as error:
                if not said:
                    about = {"store": self.store.name, "error": str(error)}
                    log.warning("a store is away: its views wait for it", extra=about)
                said = True
            except Exception:
                log.exception("a store could not be prepared", extra={"store": self.store.name})
            await asyncio.sleep(RETRY)
        for view, why in stale.items():
            # An error is reported, and the live generation goes on serving.
            try:
                await self._rebuild_stale(view, why)
            except RayfoldError:
                pass
            except Exception:
                log.exception("a rebuild broke", extra={"view": view, "store": self.store.name})

    async def _rebuild_stale(self, view: str, why: str, accept_parked: bool = True) -> None:
        about = {"view": view, "store": self.store.name}
        log.warning("%s: a view is rebuilt", why, extra=about)
        try:
            accept_parked = accept_parked or why == RESTORED
            await self.rebuild(Rebuild(view, [self.store.name], accept_parked=accept_parked))
        except RayfoldError as error:
            log.warning("a rebuild failed", extra={**about, "error": error})
            raise

    async def scale(self, views: Sequence[str], number: int) -> None:
        """Set the number of partitions of these views.

        New projectors are fenced while the old ones work; the new partitioning admits them and
        fences the old ones.

        Raises:
            ProjectionError: an actor does not start; the old ones stay.
            ReadStoreUnavailable: the store does not answer. Views that were divided already wait
                until this is called again.
        """
        placed, name = self._placements, self.store.name
        async with self._changing:
            before = self.wanted
            after = before | dict.fromkeys(views, number)
            # A projector ends when a view leaves or joins its group.
            groups = {n for view in self._views for n in (before[view], after[view])}
            moved = [n for n in groups if _group(before, n) != _group(after, n)]
            concerned = [view for view in self._views if after[view] in moved]
            leaving = [
                projector
                for projector in placed.projectors_of(name)
                if any(before[view] in moved for view in projector.views)
            ]
            self.wanted = after
            new: dict[str, list[ActorHandle]] = {}
            try:
                new = await self._start_projectors(concerned)
                await self.store.generations.partition([self._views[v] for v in views], number)
            except BaseException:  # called again, it does all of it
                self.wanted = before
                made = {each for handles in new.values() for each in handles}
                await all_done(*(each.end() for each in made))
                raise
            placed.keep(name, new)
            await asyncio.gather(*(each.look() for each in placed.projectors_of(name)))
            await placed.published()
            await asyncio.gather(*(projector.end() for projector in leaving))

    async def rebuild(self, rebuild: Rebuild) -> None:
        """Build a new generation of a view's rows beside the live one, then switch.

        Raises:
            WouldPark: it serves less than the live one, which stays.
            ProjectionError: the rebuild failed; the live one stays.
        """
        view = self._views[rebuild.view]
        generation = await self.store.generations.begin(view)
        builder = self._actor(
            f"build:{generation}", [view.name], 0, 1, {view.name: generation}, detached=False
        )
        await build(
            ViewBuilding(self.store.generations, view, generation),
            builder,
            rebuild,
            self._changing,
            self._folded,
            self._placements.of_store(self.store.name).get(view.name, ()),
        )

    async def _start_projectors(
        self, views: Sequence[str], adopted: bool = False
    ) -> dict[str, list[ActorHandle]]:
        projectors: dict[str, list[ActorHandle]] = {}
        made: list[ActorHandle] = []
        for number in sorted({self.wanted[view] for view in views}):
            group = _group(self.wanted, number)
            handles = [self._projector(group, at, number) for at in range(number)]
            projectors |= dict.fromkeys(group, handles)
            made += handles
        # Wait for all: otherwise those that answer would be left behind.
        await answering(made, adopted=adopted)
        return projectors

    def _projector(self, views: list[str], partition: int, partitions: int) -> ActorHandle:
        of = "all" if len(views) == len(self._views) else "+".join(views)
        name = f"{self.store.name}:{of}#{partition}of{partitions}"
        return self._actor(name, views, partition, partitions, {})

    def _actor(
        self, name: str, views: Sequence[str], *where: Any, detached: bool = True
    ) -> ActorHandle:
        store = self.store.name
        place = self._settings.place_of(store)
        arguments = _projector, store, place, views, *where
        return projector_actor(
            ProjectorActor, store, name, self._settings, views, *arguments, detached=detached
        )


class ViewBuilding(NamedTuple):
    """See `Building`: a generation of a view."""

    generations: Generations
    view: ViewDefinition
    generation: str

    async def newly_parked(self) -> NewlyParked | None:
        """See `Building.newly_parked`."""
        return await self.generations.newly_parked(self.view, self.generation)

    async def finish(self) -> int:
        """See `Building.finish`."""
        await self.generations.finish(self.view, self.generation)
        return await self.generations.furthest(self.view)

    async def switch(self, reached: Reached) -> None:
        """See `Building.switch`."""
        await self.generations.switch(self.view, self.generation, reached)

    async def discard(self) -> None:
        """See `Building.discard`."""
        await self.generations.discard(self.view, self.generation)


def _projector(
    registry: Registry,
    log: Log,
    dsn: str | None,
    name: str,
    place: Place,
    views: Sequence[str],
    *where: Any,
) -> Projector:
    """Make a projector in the actor's process: classes cannot be sent, their names can."""
    made = known.make(name, registry, place)
    return Projector(registry, log, made, [registry.views[each] for each in views], *where)


def _group(wanted: dict[str, int], number: int) -> list[str]:
    return [view for view, partitions in wanted.items() if partitions == number]
