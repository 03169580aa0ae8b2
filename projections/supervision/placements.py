"""Which actors hold what: written by supervisors, looked up by readers and operators.

Other processes get them as `routes`, which is plain JSON.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from projections.partitions import hash_of
from rayfold import RayfoldError

if TYPE_CHECKING:
    from projections.competing.consumer_handle import ConsumerHandle
    from projections.memory.replica_handle import ReplicaHandle
    from projections.supervision.actor_handle import ActorHandle


log = logging.getLogger(__name__)

PUBLISHED = 5.0
"""Seconds that a change waits for followers to be told."""


class Placements:
    """The actors of the read side, by what they do and for which views."""

    def __init__(self) -> None:
        self.replicas: list[ReplicaHandle] = []
        """Memory replicas; those with the most views come first."""
        self.projectors: dict[str, dict[str, list[ActorHandle]]] = {}
        """By durable store, then by view: the projector of each partition."""
        self.consumers: dict[str, list[ConsumerHandle]] = {}
        """By view: the competing consumers."""
        self.sql_projectors: dict[str, ActorHandle] = {}
        """The projectors by custom SQL projection."""
        self.process = uuid4().hex
        """Identifies this process among those that query the same replicas."""
        self.in_flight: Counter[str] = Counter()
        """Open queries of this process to memory, by view, including those without a replica
        yet.
        """
        self.on_change: Callable[[], Awaitable[None]] | None = None
        """Tells followers of `routes`, and returns when they can know."""

    def routes(self) -> dict[str, Any]:
        """Return what another process needs to reach the actors."""
        return {
            "actors": {
                each.ray_name: {"name": each.name, "kind": each.kind, "views": each.views}
                for each in self.all
            },
            "replicas": [each.ray_name for each in self.replicas],
            "projectors": _names(self.of_store("postgres")),
            "stores": {
                store: _names(views)
                for store, views in self.projectors.items()
                if store != "postgres"  # which has its own field, from before there were others
            },
            "consumers": _names(self.consumers),
            "sql": {name: each.ray_name for name, each in self.sql_projectors.items()},
        }

    async def published(self) -> None:
        """Let followers learn of the current actors, before removed ones are ended.

        If they cannot be told, they lose the removed actors, and look for others.
        """
        if self.on_change is None:
            return
        try:
            async with asyncio.timeout(PUBLISHED):
                await self.on_change()
        except (TimeoutError, RayfoldError) as error:
            log.warning("a change of actors could not be published", extra={"error": repr(error)})

    @property
    def all(self) -> list[ActorHandle]:
        """Return every actor once."""
        return [*self.replicas, *self.all_projectors, *self.all_consumers, *self.all_sql]

    @property
    def all_projectors(self) -> list[ActorHandle]:
        """Return every projector once: those of several views are in several lists."""
        return _once(handles for views in self.projectors.values() for handles in views.values())

    def projectors_of(self, store: str) -> list[ActorHandle]:
        """Return every projector of a store once."""
        return _once(self.of_store(store).values())

    def of_store(self, store: str) -> dict[str, list[ActorHandle]]:
        """Return the projectors of a store by view; none if it has none."""
        return self.projectors.get(store, {})

    def keep(self, store: str, projectors: Mapping[str, list[ActorHandle]]) -> None:
        """Set the projectors that fill the views' rows in a store."""
        self.projectors = {**self.projectors, store: {**self.of_store(store), **projectors}}

    @property
    def all_consumers(self) -> list[ActorHandle]:
        """Every competing consumer."""
        return _once(self.consumers.values())

    @property
    def all_sql(self) -> list[ActorHandle]:
        """Every projector of a custom SQL projection."""
        return list(self.sql_projectors.values())

    def replicas_of(self, view: str) -> list[ReplicaHandle]:
        """Return the replicas that hold the view."""
        return [replica for replica in self.replicas if view in replica.views]

    def filling(
        self, view: str, key: str | None = None, store: str = "postgres"
    ) -> list[ActorHandle]:
        """Return the actors that fill the view's rows in a store, or only that of a key's row."""
        projectors = self.of_store(store).get(view)
        if not projectors:
            return [*self.consumers.get(view, [])] if store == "postgres" else []
        return projectors if key is None else [projectors[hash_of(key) % len(projectors)]]


def _once(groups: Iterable[Sequence[ActorHandle]]) -> list[ActorHandle]:
    unique: dict[str, ActorHandle] = {}
    for handles in groups:
        unique |= {handle.name: handle for handle in handles}
    return list(unique.values())


def _names(groups: Mapping[str, Sequence[ActorHandle]]) -> dict[str, list[str]]:
    return {view: [each.ray_name for each in handles] for view, handles in groups.items()}
