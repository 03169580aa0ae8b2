"""What is placed where: supervisors write it down, readers and operators look it up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from projections.partitions import hash_of

if TYPE_CHECKING:
    from projections.competing.consumer_handle import ConsumerHandle
    from projections.memory.replica_handle import ReplicaHandle
    from projections.supervision.actor_handle import ActorHandle


class Placements:
    """The actors of the read side, by what they do and for which views."""

    def __init__(self) -> None:
        self.replicas: list[ReplicaHandle] = []
        """Memory replicas; those with the most views come first."""
        self.projectors: dict[str, list[ActorHandle]] = {}
        """By view: the projector of each partition."""
        self.consumers: dict[str, list[ConsumerHandle]] = {}
        """By view: the competing consumers."""
        self.sql_projectors: dict[str, ActorHandle] = {}
        """By custom SQL projection."""

    @property
    def all(self) -> list[ActorHandle]:
        """Every actor once."""
        return [*self.replicas, *self.all_projectors, *self.all_consumers, *self.all_sql]

    @property
    def all_projectors(self) -> list[ActorHandle]:
        """Every projector once: those of several views are in several lists."""
        return _once(self.projectors.values())

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

    def filling(self, view: str, key: str | None = None) -> list[ActorHandle]:
        """Return what fills the view's table, or the part of it that has the key's row."""
        projectors = self.projectors.get(view)
        if not projectors:
            return [*self.consumers.get(view, [])]
        return projectors if key is None else [projectors[hash_of(key) % len(projectors)]]


def _once(groups: Iterable[Sequence[ActorHandle]]) -> list[ActorHandle]:
    unique: dict[str, ActorHandle] = {}
    for handles in groups:
        unique |= {handle.name: handle for handle in handles}
    return list(unique.values())
