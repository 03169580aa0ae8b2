"""The SQL projectors: one for each custom SQL projection of the domain."""

from __future__ import annotations

import asyncio
import logging

from eventstore.deletions import with_deletions
from eventstore.folded_log import FoldedLog
from eventstore.port import Log
from projections.operations.rebuild import Rebuild
from projections.postgres.connections import connected
from projections.postgres.generations import position_of
from projections.postgres.rebuild import PostgresBuilding
from projections.settings import ReadSettings
from projections.sql import schema
from projections.sql.projector import SqlProjector
from projections.stores.projector_actor import ProjectorActor
from projections.stores.rebuild import build
from projections.supervision.actor_handle import ActorHandle, answering
from projections.supervision.placements import Placements
from projections.supervision.spawning import projector_actor
from rayfold import Registry

log = logging.getLogger(__name__)


class SqlSupervisor:
    """Keeps a projector for each projection."""

    def __init__(
        self, registry: Registry, settings: ReadSettings, placements: Placements, log: Log
    ) -> None:
        self._settings = settings
        self._placements = placements
        self._projections = registry.projections
        self._folded = FoldedLog(log, with_deletions(registry.prefixes))
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Create schemas and projectors. Projections with a changed definition are rebuilt first.

        So are those that are ahead of the log, which was restored to an earlier moment.

        Raises:
            PostgresUnavailable: it does not answer, or rejects a `schema`.
            ProjectionError: an actor does not start, or a build stopped.
        """
        if not self._projections:
            return
        async with connected(self._settings.postgres) as connection:
            changed = await schema.prepare(connection, list(self._projections.values()))
            checkpoints = {
                name: await position_of(connection, schema.live(each).relation)
                for name, each in self._projections.items()
                if each not in changed
            }
        lost = await self._folded.lacks(checkpoints)  # before a build gives the log time to grow
        accept_parked = self._settings.accept_parked
        for projection in changed:
            log.warning("the definition of %r has changed: it is rebuilt", projection.name)
            await self.rebuild(Rebuild(projection.name, ["postgres"], accept_parked=accept_parked))
        for name in lost:
            log.warning("the log was restored to an earlier moment: %r is rebuilt", name)
            await self.rebuild(Rebuild(name, ["postgres"], accept_parked=True))
        self._placements.sql_projectors = {
            name: self._projector(name) for name in self._projections
        }
        await answering(self._placements.all_sql, adopted=self._settings.detached)

    async def rebuild(self, rebuild: Rebuild) -> None:
        """Build a new generation of a projection's schema beside the live one, then switch.

        Raises:
            ProjectionError, PostgresUnavailable: the rebuild failed; the live tables stay.
        """
        projection = self._projections[rebuild.view]
        async with connected(self._settings.postgres) as connection:
            built = await schema.begin_generation(connection, projection)
        await build(
            PostgresBuilding(self._settings.postgres, schema.live(projection), built),
            self._projector(projection.name, built),
            rebuild,
            self._changing,
            self._folded,
            [each for each in self._placements.all_sql if projection.name in each.views],
        )

    def _projector(self, name: str, built: str | None = None) -> ActorHandle:
        of = f"sql:{name}" if built is None else f"sql:{built}"
        arguments = _projector, name, built
        detached = built is None
        return projector_actor(
            ProjectorActor, "sql", of, self._settings, [name], *arguments, detached=detached
        )


def _projector(
    registry: Registry, log: Log, dsn: str, name: str, built: str | None
) -> SqlProjector:
    """Make a projector in the actor's process: classes cannot be sent, their names can."""
    return SqlProjector(registry, log, dsn, registry.projections[name], built)
