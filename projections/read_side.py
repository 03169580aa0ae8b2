"""The read side as a whole: its actors, and the bus that reaches them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import asyncpg
import ray
from ray.exceptions import RayError

from eventstore.errors import StoreUnavailable
from eventstore.log import EventLog
from projections.errors import Behind, PostgresUnavailable, ProjectionError, UnknownTarget
from projections.history import History
from projections.memory_reads import MemoryReads, ReplicaClient
from projections.part import Part
from projections.postgres_reads import PostgresReads
from projections.projector_actor import ProjectorActor
from projections.query_bus import QueryBus
from projections.replica_actor import ReplicaActor
from projections.schema import migrate
from projections.verify import Difference, Kept, compare, fold_afresh, plain
from rayfold import Registry, View

log = logging.getLogger(__name__)

START = 60.0
"""Seconds for an actor to come up on a busy machine."""

READY = 3600.0
"""Seconds for a new replica to come to the log's end."""

MOST_PARTS = 64

LOOK = 0.5
"""Seconds between two looks at every part."""


@dataclass(frozen=True)
class ReadSettings:
    """`domain` is a package, `eventstore` a URI, `postgres` a DSN."""

    domain: str
    eventstore: str
    postgres: str
    memory_replicas: int = 1
    postgres_partitions: int = 1
    namespace: str = "rayfold"


class ReadSide:
    """Started in the gateway's process, where Ray runs already."""

    def __init__(self, registry: Registry, settings: ReadSettings) -> None:
        self._registry = registry
        self._settings = settings
        self._log = EventLog(settings.eventstore)
        self._memory = MemoryReads()
        self._postgres = PostgresReads(registry, settings.postgres)
        self._looking: asyncio.Task[None] | None = None
        self._end = 0
        self._numbers = count()
        self._scaling = asyncio.Lock()
        self.bus = QueryBus(registry, self._memory, self._postgres)
        self.history = History(registry, self._log)

    @classmethod
    async def start(cls, registry: Registry, settings: ReadSettings) -> ReadSide:
        """Migrates Postgres, makes the actors, waits until they answer; not until caught up.

        Raises:
            PostgresUnavailable: it does not answer.
            ProjectionError: an actor does not come up.
        """
        side = cls(registry, settings)
        await side._migrate(settings.postgres_partitions)
        await side._postgres.connect()
        side._memory.replicas = [side._replica() for _ in range(settings.memory_replicas)]
        side._postgres.projectors = side._projectors(settings.postgres_partitions)
        await _answering(side._parts)
        await side._start_replicas()
        await side._look_once()
        side._looking = asyncio.create_task(side._look())
        return side

    @property
    def _parts(self) -> list[Part]:
        return [*self._memory.replicas, *self._postgres.projectors]

    async def caught_up(self, timeout: float) -> None:
        """Returns when every part has reached the log's end as of this call.

        Raises:
            Behind: one has not, after `timeout` seconds.
            StoreUnavailable: the log's end is not known.
        """
        until = time.monotonic() + timeout
        end = await self._log.end_position(self._registry.prefixes)
        for part in self._parts:
            if not await part.reached(end, until):
                raise Behind(part.name, part.progress.position, end)
        while not all(part.ready for part in self._parts):
            if time.monotonic() > until:
                raise Behind("a part is not ready", 0, end)
            await asyncio.gather(*(part.look() for part in self._parts))

    async def scale(self, target: str, number: int) -> None:
        """Sets the number of `memory` replicas or `postgres` partitions, while serving.

        Raises:
            ProjectionError: there is no such target, or not so many of it.
        """
        kind, _, view = target.partition(":")
        if kind not in ("memory", "postgres") or (view and view not in self._registry.views):
            raise UnknownTarget(f"nothing to scale is named {target!r}")
        if not 1 <= number <= MOST_PARTS:
            raise UnknownTarget(f"{target} goes from 1 to {MOST_PARTS}, not {number}")
        async with self._scaling:
            if kind == "memory":
                await self._scale_memory(number)
            else:
                await self._scale_postgres(number)

    async def _scale_memory(self, number: int) -> None:
        replicas = self._memory.replicas
        new = [self._replica() for _ in range(number - len(replicas))]
        await _answering(new)
        # Known before they are ready, asked only from then on.
        self._memory.replicas = [*replicas, *new][:number]
        await self._start_replicas()
        for replica in new:
            await self._ready(replica)
        for replica in replicas[number:]:
            await replica.idle()
            await _end(replica)

    async def _scale_postgres(self, number: int) -> None:
        leaving, self._postgres.projectors = self._postgres.projectors, []
        await asyncio.gather(*(_end(part) for part in leaving))
        await self._migrate(number)
        projectors = self._projectors(number)
        await _answering(projectors)
        await asyncio.gather(*(part.look() for part in projectors))
        self._postgres.projectors = projectors

    async def _start_replicas(self) -> None:
        """New and restarted ones begin: with a copy of a peer that is ready, where one is."""
        for replica in self._memory.replicas:
            if replica.seen.get("started"):
                continue
            peers = [peer for peer in self._memory.replicas if peer.ready and peer is not replica]
            peer = min(peers, key=lambda each: each.open, default=None)
            try:
                await replica.actor.start.remote(peer.actor if peer else None)
            except RayError as error:
                log.info("%s did not start: %r", replica.name, error)

    async def _ready(self, part: Part) -> None:
        until = time.monotonic() + READY
        while not part.ready:
            if time.monotonic() > until:
                raise ProjectionError(f"{part.name} does not come to the log's end")
            await asyncio.sleep(0.05)
            await part.look()

    async def status(self) -> list[dict[str, Any]]:
        """Every part: state, position, and lag in positions."""
        return [part.status(self._end) for part in self._parts]

    async def verify(self, timeout: float = 60.0) -> list[dict[str, Any]]:
        """Where a view in a store differs from a fresh fold of the log; none, one hopes.

        Raises:
            Behind: a part did not come to the log's end in `timeout` seconds.
            StoreUnavailable, PostgresUnavailable, ProjectionError: no answer.
        """
        end = await self._log.end_position(self._registry.prefixes)
        await self.caught_up(timeout)
        expected = await fold_afresh(self._registry, self._log, end)
        differences: list[Difference] = []
        for view in self._registry.views.values():
            stores = await self._stores_of(view)
            for store, rows in stores.items():
                found = {key: Kept(body, position) for key, body, position in rows}
                differences += compare(store, view.name, expected[view.name], found, end)
        return plain(differences)

    async def _stores_of(self, view: type[View]) -> dict[str, list[tuple[str, bytes, int]]]:
        stores: dict[str, list[tuple[str, bytes, int]]] = {}
        for replica in self._memory.of(view.name):
            try:
                stores[replica.name] = await replica.actor.rows.remote(view.name)
            except RayError as error:
                raise ProjectionError(f"{replica.name} does not answer: {error!r}") from error
        if "postgres" in view.stores:
            stores["postgres"] = await self._postgres.rows(view.name)
        return stores

    async def stop(self) -> None:
        """Ends subscriptions, removes the actors, closes connections."""
        if self._looking is not None:
            self._looking.cancel()
        await asyncio.gather(*(_end(part) for part in self._parts))
        await self._postgres.close()
        await self._log.close()

    async def _migrate(self, partitions: int) -> None:
        views = [view for view in self._registry.views.values() if "postgres" in view.stores]
        try:
            connection = await asyncpg.connect(self._settings.postgres, timeout=10)
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            raise PostgresUnavailable(f"Postgres does not answer: {error}") from error
        try:
            await migrate(connection, views, partitions)
        finally:
            await connection.close()

    def _replica(self) -> ReplicaClient:
        settings = self._settings
        views = [view.name for view in self._registry.views.values() if "memory" in view.stores]
        name = f"memory:all#{next(self._numbers)}"
        actor = _remote(ReplicaActor, name, settings.namespace).remote(
            name, settings.domain, views, settings.eventstore
        )
        return ReplicaClient(name, views, actor)

    def _projectors(self, partitions: int) -> list[Part]:
        settings = self._settings
        parts = []
        for partition in range(partitions):
            name = f"postgres#{partition}of{partitions}"
            actor = _remote(ProjectorActor, f"{name}.{next(self._numbers)}", settings.namespace)
            parts.append(
                Part(
                    name,
                    "postgres",
                    actor.remote(
                        settings.domain,
                        settings.eventstore,
                        settings.postgres,
                        partition,
                        partitions,
                    ),
                )
            )
        return parts

    async def _look(self) -> None:
        """Keeps what is known of the parts fresh; calling a restarted one sets it going."""
        while True:
            await asyncio.sleep(LOOK)
            await self._look_once()
            if not self._scaling.locked():
                await self._start_replicas()

    async def _look_once(self) -> None:
        await asyncio.gather(*(part.look() for part in self._parts))
        try:
            self._end = await self._log.end_position(self._registry.prefixes)
        except StoreUnavailable as error:
            log.info("the log's end is not known: %s", error)


async def _answering(parts: Sequence[Part]) -> None:
    try:
        async with asyncio.timeout(START):
            await asyncio.gather(*(part.actor.status.remote() for part in parts))
    except (TimeoutError, RayError) as error:
        raise ProjectionError(f"an actor does not come up: {error!r}") from error


def _remote(actor: type, name: str, namespace: str) -> Any:
    return ray.remote(actor).options(
        name=f"rayfold:{name}",
        namespace=namespace,
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=1000,
    )


async def _end(part: Part) -> None:
    part.close()
    try:
        async with asyncio.timeout(5):
            await part.actor.stop.remote()
    except (TimeoutError, RayError) as error:
        log.info("%s did not stop by itself: %r", part.name, error)
    ray.kill(part.actor)
