"""The Postgres projectors: partitioned by view, and the generations of the tables."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from eventstore.port import Log
from projections.errors import ProjectionError
from projections.operations.rebuild import Rebuild
from projections.postgres import schema
from projections.postgres.projector import Projector
from projections.postgres.projector_actor import ProjectorActor
from projections.postgres.rebuild import build, connected
from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle, answering
from projections.supervision.placements import Placements
from projections.supervision.spawning import postgres_actor
from rayfold import OnPoison, Registry

log = logging.getLogger(__name__)


class PostgresSupervisor:
    """Keeps the projectors that are wanted. Views with as many partitions share them."""

    def __init__(self, registry: Registry, settings: ReadSettings, placements: Placements) -> None:
        self._settings = settings
        self._placements = placements
        self._views = {
            view.name: view
            for view in registry.views.values()
            if "postgres" in view.stores and view.delivery == "ordered"
        }
        self.undivided = {
            name for name, view in self._views.items() if view.on_poison is OnPoison.STOP
        }
        """Views that stop as a whole: one projector folds all of their keys, so that it can."""
        self.wanted = {
            name: 1 if name in self.undivided else settings.number("postgres", name)
            for name in self._views
        }
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Make tables and projectors. A view whose definition has changed is rebuilt first.

        Raises:
            PostgresUnavailable: it does not answer.
            ProjectionError: an actor does not come up.
        """
        async with connected(self._settings.postgres) as connection:
            stale = await schema.prepare(connection, list(self._views.values()), self.wanted)
        for view in stale:
            log.warning("the definition of %r has changed: its table is rebuilt", view.name)
            await self.rebuild(Rebuild(view.name, ["postgres"]))
        adopted = self._settings.detached
        self._placements.projectors = await self._start_projectors(list(self._views), adopted)

    async def scale(self, views: Sequence[str], number: int) -> None:
        """Set the number of partitions of these views.

        New projectors wait in front of the fence while the old ones work; cutting the key
        space again lets those in and these out.

        Raises:
            ProjectionError: an actor does not come up; the old ones stay.
            PostgresUnavailable: it does not answer.
        """
        async with self._changing:
            before = self.wanted
            after = before | dict.fromkeys(views, number)
            # A projector of some views ends when one of them leaves or joins its group.
            groups = {n for view in self._views for n in (before[view], after[view])}
            moved = [n for n in groups if _group(before, n) != _group(after, n)]
            concerned = [view for view in self._views if after[view] in moved]
            leaving = [
                projector
                for projector in self._placements.all_projectors
                if any(before[view] in moved for view in projector.views)
            ]
            self.wanted = after
            try:
                new = await self._start_projectors(concerned)
            except ProjectionError:
                self.wanted = before
                raise
            async with connected(self._settings.postgres) as connection, connection.transaction():
                for view in views:
                    await schema.partition(connection, schema.table_of(self._views[view]), number)
            self._placements.projectors = self._placements.projectors | new
            await asyncio.gather(*(each.look() for each in self._placements.all_projectors))
            await self._placements.published()
            await asyncio.gather(*(projector.end() for projector in leaving))

    async def rebuild(self, rebuild: Rebuild) -> None:
        """Build a new generation of a view's table beside the live one, then switch.

        Raises:
            ProjectionError, PostgresUnavailable: not done; the live table is as it was.
        """
        view = self._views[rebuild.view]
        async with connected(self._settings.postgres) as connection:
            table = await schema.begin_generation(connection, view)
        arguments = _projector, [view.name], 0, 1, {view.name: table}
        builder = postgres_actor(
            ProjectorActor,
            "postgres",
            f"build:{table}",
            self._settings,
            [view.name],
            *arguments,
            detached=False,
        )
        await build(
            self._settings.postgres,
            schema.live(view),
            table,
            builder,
            rebuild,
            self._changing,
            following=self._placements.projectors.get(view.name, ()),
            finish=partial(schema.create_indexes, view=view, table=table),
        )

    async def _start_projectors(
        self, views: Sequence[str], adopted: bool = False
    ) -> dict[str, list[ActorHandle]]:
        projectors: dict[str, list[ActorHandle]] = {}
        for number in sorted({self.wanted[view] for view in views}):
            group = _group(self.wanted, number)
            handles = [self._projector(group, at, number) for at in range(number)]
            projectors |= dict.fromkeys(group, handles)
            await answering(handles, adopted=adopted)
        return projectors

    def _projector(self, views: list[str], partition: int, partitions: int) -> ActorHandle:
        of = "all" if len(views) == len(self._views) else "+".join(views)
        name = f"postgres:{of}#{partition}of{partitions}"
        arguments: tuple[Any, ...] = _projector, views, partition, partitions, {}
        return postgres_actor(ProjectorActor, "postgres", name, self._settings, views, *arguments)


def _projector(
    registry: Registry, store: Log, dsn: str, views: Sequence[str], *where: Any
) -> Projector:
    """In the actor's process: classes do not travel, their names do."""
    return Projector(registry, store, dsn, [registry.views[name] for name in views], *where)


def _group(wanted: dict[str, int], number: int) -> list[str]:
    return [view for view, partitions in wanted.items() if partitions == number]
