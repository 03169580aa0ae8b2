"""The competing consumers of each view that is declared so: their group, and generations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from eventstore.deletions import with_deletions
from eventstore.folded_log import FoldedLog
from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.port import Log
from projections.competing.backfill import Backfill
from projections.competing.consumer import group_of
from projections.competing.consumer_actor import ConsumerActor
from projections.competing.consumer_handle import ConsumerHandle
from projections.competing.locks import lock_table
from projections.operations.rebuild import Rebuild
from projections.postgres import schema
from projections.postgres.connections import connected
from projections.postgres.generations import Connection
from projections.postgres.rebuild import PostgresBuilding
from projections.settings import ReadSettings
from projections.stores.projector_actor import ProjectorActor
from projections.stores.rebuild import build
from projections.supervision.actor_handle import ActorHandle, answering
from projections.supervision.placements import Placements
from projections.supervision.spawning import Spawner, projector_actor
from rayfold import Registry, ViewDefinition

log = logging.getLogger(__name__)


class CompetingSupervisor:
    """Keeps the wanted consumers, as `StoreSupervisor` does with projectors."""

    def __init__(
        self, registry: Registry, settings: ReadSettings, placements: Placements, log: Log
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._placements = placements
        self._log = log
        self._folded = FoldedLog(log, with_deletions(registry.prefixes))
        self._groups = PersistentSubscriptions(settings.eventstore)
        self._views: dict[str, ViewDefinition] = {
            view.name: view for view in registry.views.values() if view.delivery == "competing"
        }
        self.wanted = {view: settings.number("postgres", view) for view in self._views}
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Create tables, groups and consumers. Views with a changed definition are rebuilt first.

        So are views that are ahead of the log, which was restored to an earlier moment.

        Raises:
            PostgresUnavailable, StoreUnavailable: a store does not answer.
            ProjectionError: an actor does not start.
        """
        if not self._views:
            return
        views = list(self._views.values())
        async with connected(self._settings.postgres) as connection:
            stale = await schema.prepare(connection, views, dict.fromkeys(self._views, 1))
            checkpoints = {
                view.name: await schema.position_of(connection, schema.table_of(view))
                for view in views
                if view not in stale
            }
        lost = await self._folded.lacks(checkpoints)  # before a build gives the log time to grow
        accept_parked = self._settings.accept_parked
        for view in stale:
            log.warning("the definition of %r has changed: its table is rebuilt", view.name)
            await self.rebuild(Rebuild(view.name, ["postgres"], accept_parked=accept_parked))
        for name in lost:
            log.warning("the log was restored to an earlier moment: %r is rebuilt", name)
            await self.rebuild(Rebuild(name, ["postgres"], accept_parked=True))
        for view in views:
            async with connected(self._settings.postgres) as connection:
                position = await schema.position_of(connection, schema.table_of(view))
            # The table determines where its group begins, not the store's memory: the database may
            # be another one by now, or an older backup.
            await self._groups.create(
                group_of(view), with_deletions(self._registry.prefixes), position
            )
        self._placements.consumers = {
            name: [self._consumer(name, at) for at in range(number)]
            for name, number in self.wanted.items()
        }
        await answering(self._placements.all_consumers, adopted=self._settings.detached)

    async def scale(self, views: Sequence[str], number: int) -> None:
        """Set the number of consumers of these views.

        Raises:
            ProjectionError: a new one does not start; the old ones stay.
        """
        async with self._changing:
            for name in views:
                present = self._placements.consumers[name]
                new = [self._consumer(name, at) for at in range(len(present), number)]
                await answering(new)
                self._placements.consumers[name] = [*present[:number], *new]
                self.wanted[name] = number
                await self._placements.published()
                await asyncio.gather(*(consumer.end() for consumer in present[number:]))
                if new:  # a stream stays with its consumer until that leaves
                    await asyncio.gather(*(consumer.rejoin() for consumer in present))

    async def rebuild(self, rebuild: Rebuild) -> None:
        """Build a new generation of a view's table beside the live one, then switch.

        Consumers need not be told: their events are checked against the streams' revisions of the
        live table, under a lock that the switch takes exclusively.

        Raises:
            ProjectionError, PostgresUnavailable: the rebuild failed; the live table stays.
        """
        view = self._views[rebuild.view]
        async with connected(self._settings.postgres) as connection:
            table = await schema.begin_generation(connection, view)

        async def hold(connection: Connection) -> int:
            await lock_table(connection, schema.table_of(view))
            return await self._log.end_position(with_deletions(self._registry.prefixes))

        make_ready = partial(schema.create_indexes, view=view, table=table)
        await build(
            PostgresBuilding(self._settings.postgres, schema.live(view), table, make_ready, hold),
            self._builder(view.name, table),
            rebuild,
            self._changing,
            self._folded,
        )

    async def stop(self) -> None:
        """Close the connection. The groups stay, and are created again by the next start."""
        await self._groups.close()

    def _consumer(self, view: str, number: int) -> ConsumerHandle:
        name = f"competing:{view}#{number}"
        settings = self._settings
        where = settings.domain, settings.eventstore, settings.postgres, settings.identity
        spawn = Spawner(ConsumerActor, "postgres", name, settings, *where, view)
        return ConsumerHandle(name, "competing", [view], spawn, spawn.place)

    def _builder(self, view: str, table: str) -> ActorHandle:
        name, arguments = f"build:{table}", (_builder, view, table)
        return projector_actor(
            ProjectorActor, "competing", name, self._settings, [view], *arguments, detached=False
        )


def _builder(registry: Registry, log: Log, dsn: str, view: str, table: str) -> Backfill:
    """Make a builder in the actor's process: classes cannot be sent, their names can."""
    return Backfill(registry, log, dsn, registry.views[view], table)
