"""Settings of the read side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from projections.stores.port import Place
from rayfold import ViewDefinition
from rayfold.runtime.identity import Identity
from rayfold.runtime.placing import Anywhere, Placing


@dataclass(frozen=True)
class ReadSettings:
    """`domain` is a package, `eventstore` a URI, `postgres` a DSN, `redis` a URL.

    Without `redis` there is no such store: views that name it are kept in their other stores.

    `postgres_reads` are DSNs of streaming replicas that answer queries. `autoscale` has, by target
    of `rayfold scale`, the smallest and largest number that the autoscaler may set.
    """

    domain: str
    eventstore: str
    postgres: str
    redis: str = ""
    stores: Mapping[str, str] = field(default_factory=dict)
    """URLs of stores from other packages, by name."""
    postgres_reads: Sequence[str] = ()
    memory_replicas: int = 1
    postgres_partitions: int = 1
    autoscale: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    namespace: str = "rayfold"
    placing: Placing = field(default_factory=Anywhere)
    identity: Identity = field(default_factory=Identity)
    """What every actor compares with the stores that it reaches; see there. The stack's id is in
    the name of every actor: stacks in one namespace share none.
    """
    detached: bool = False
    """Whether actors outlive the process that starts them: in a cluster, where the next owner of
    the stack adopts them.
    """
    accept_parked: bool = True
    """Whether, at the start, a changed view replaces the live one even if it has parked keys that
    the live one serves. The live one is no longer updated, unless its release still runs.
    """
    snapshots: str = ""
    """A folder on each node for snapshots of views that are only in memory; empty for no
    snapshots.
    """
    host_connections: int = 0
    """The most connections that all hosts of the write side together open to Postgres."""
    wanted: Mapping[str, int] = field(default_factory=dict)
    """Numbers that operators have set, by target of `rayfold scale`; they override those above."""

    def place_of(self, store: str) -> Place:
        """Return where a durable store is; its URL is empty if the stack has no such store."""
        ours = {"postgres": self.postgres, "redis": self.redis}
        return Place(ours.get(store) or self.stores.get(store, ""), self.identity.stack)

    def stores_of(self, view: ViewDefinition) -> tuple[str, ...]:
        """Return the stores that a view names and that this stack has."""
        return tuple(
            store for store in view.stores if store == "memory" or self.place_of(store).url
        )

    def number(self, store: str, view: str) -> int:
        """Return a view's number of `memory` replicas, or of partitions in another store."""
        ours = {"memory": self.memory_replicas, "postgres": self.postgres_partitions}
        default = ours.get(store, 1)
        return self.wanted.get(f"{store}:{view}", self.wanted.get(store, default))

    @property
    def made_with(self) -> str:
        """A short text that changes when actors with the old settings are no longer usable."""
        told: tuple[str, ...]
        told = self.identity.domain, self.domain, self.eventstore, self.postgres, self.redis
        told = *told, *map(str, sorted(self.stores.items())), *map(str, self.identity)
        return hashlib.blake2b("\n".join(told).encode(), digest_size=5).hexdigest()
