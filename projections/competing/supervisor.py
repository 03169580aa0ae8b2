"""The competing consumers: a group for each view that is declared so, and its generations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from itertools import count

from ray.exceptions import RayError

from eventstore.kurrentdb.persistent_subscriptions import PersistentSubscriptions
from eventstore.port import Log
from projections.competing.backfill import Backfill
from projections.competing.consumer import group_of
from projections.competing.consumer_actor import ConsumerActor
from projections.competing.locks import lock_table
from projections.operations.rebuild import Rebuild
from projections.postgres import schema
from projections.postgres.generations import Connection
from projections.postgres.projector_actor import ProjectorActor
from projections.postgres.reader import PostgresReader
from projections.postgres.rebuild import build, connected
from projections.settings import ReadSettings
from projections.supervision.actor_handle import ActorHandle
from projections.supervision.spawning import answering, end, keeper
from rayfold import Registry, ViewDefinition

log = logging.getLogger(__name__)


class CompetingSupervisor:
    """Keeps `reads` supplied with consumers, as `PostgresSupervisor` does with projectors."""

    def __init__(
        self, registry: Registry, settings: ReadSettings, reads: PostgresReader, store: Log
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._reads = reads
        self._store = store
        self._groups = PersistentSubscriptions(settings.eventstore)
        self._numbers = count()
        self._views: dict[str, ViewDefinition] = {
            view.name: view for view in registry.views.values() if view.delivery == "competing"
        }
        self.wanted = dict.fromkeys(self._views, settings.postgres_partitions)
        self._changing = asyncio.Lock()

    @property
    def parts(self) -> list[ActorHandle]:
        """All consumers."""
        return [part for view in self._views for part in self._reads.projectors[view]]

    async def start(self) -> None:
        """Makes tables, groups and consumers. What has a changed definition is built anew first.

        Raises:
            PostgresUnavailable, StoreUnavailable: it does not answer.
            ProjectionError: an actor does not come up.
        """
        if not self._views:
            return
        views = list(self._views.values())
        async with connected(self._settings.postgres) as connection:
            stale = await schema.prepare(connection, views, dict.fromkeys(self._views, 1))
        for view in stale:
            log.warning("the definition of %r has changed: its table is built anew", view.name)
            await self.rebuild(Rebuild(view.name, ["postgres"]))
        for view in views:
            async with connected(self._settings.postgres) as connection:
                position = await schema.position_of(connection, schema.table_of(view))
            # The table says where its group begins, and not what the store remembers: the
            # database may be another one by now, or an older backup.
            await self._groups.create(group_of(view), self._registry.prefixes, position)
        for name in self._views:
            self._reads.projectors[name] = [self._consumer(name) for _ in range(self.wanted[name])]
        await answering(self.parts)
        await asyncio.gather(*(part.look() for part in self.parts))

    async def scale(self, views: Sequence[str], number: int) -> None:
        """Sets the number of consumers of these views.

        Raises:
            ProjectionError: a new one does not come up; the old ones stay.
        """
        async with self._changing:
            for name in views:
                present = self._reads.projectors[name]
                new = [self._consumer(name) for _ in range(number - len(present))]
                await answering(new)
                await asyncio.gather(*(part.look() for part in new))
                self._reads.projectors[name] = [*present[:number], *new]
                self.wanted[name] = number
                await asyncio.gather(*(end(part) for part in present[number:]))
                if new:  # a stream stays with its consumer until that one leaves
                    await asyncio.gather(*(_rejoin(part) for part in present))

    async def rebuild(self, rebuild: Rebuild) -> None:
        """Builds a new generation of a view's table beside the live one, then switches.

        Consumers need not know: what they are given is checked against the streams' revisions
        of whichever table is live, under a lock that the switch holds alone.

        Raises:
            ProjectionError, PostgresUnavailable: not done; the live table is as it was.
        """
        view = self._views[rebuild.view]
        async with connected(self._settings.postgres) as connection:
            table = await schema.begin_generation(connection, view)

        async def hold(connection: Connection) -> int:
            await lock_table(connection, schema.table_of(view))
            return await self._store.end_position(self._registry.prefixes)

        await build(
            self._settings.postgres,
            schema.live(view),
            table,
            self._builder(view.name, table),
            rebuild,
            self._changing,
            finish=partial(schema.create_indexes, view=view, table=table),
            hold=hold,
        )

    async def stop(self) -> None:
        """Ends all consumers. The groups stay, and are made anew by the next start."""
        await asyncio.gather(*(end(part) for part in self.parts))
        await self._groups.close()

    def _consumer(self, view: str) -> ActorHandle:
        name = f"competing:{view}#{next(self._numbers)}"
        return keeper(ConsumerActor, "competing", name, self._settings, [view], view)

    def _builder(self, view: str, table: str) -> ActorHandle:
        name, arguments = f"build:{table}", (_builder, view, table)
        return keeper(ProjectorActor, "competing", name, self._settings, [view], *arguments)


def _builder(registry: Registry, store: Log, dsn: str, view: str, table: str) -> Backfill:
    """In the actor's process: classes do not travel, their names do."""
    return Backfill(registry, store, dsn, registry.views[view], table)


async def _rejoin(part: ActorHandle) -> None:
    try:
        await part.actor.rejoin.remote()
    except RayError as error:
        log.info("%s was not told to join anew: %r", part.name, error)
