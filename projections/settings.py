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

    Without a `redis` there is none: views that name it are kept in their other stores.

    `postgres_reads` are DSNs of streaming replicas that answer queries. `autoscale` gives
    targets of `rayfold scale` the least and the most that the autoscaler may set.
    """

    domain: str
    eventstore: str
    postgres: str
    redis: str = ""
    stores: Mapping[str, str] = field(default_factory=dict)
    """URLs of stores that other packages bring, by name."""
    postgres_reads: Sequence[str] = ()
    memory_replicas: int = 1
    postgres_partitions: int = 1
    autoscale: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    namespace: str = "rayfold"
    placing: Placing = field(default_factory=Anywhere)
    identity: Identity = field(default_factory=Identity)
    """What every actor compares with what it meets; see there. The stack's id is in the name of
    every actor: stacks of one namespace share none."""
    detached: bool = False
    """Whether actors outlive the process that makes them: in a cluster, where the next owner of
    the stack adopts those that it would make."""
    accept_parked: bool = True
    """Whether a view of another definition takes the place, at the start, of one that serves keys
    which are parked in it. Nobody folds the one before any more, unless its release still runs."""
    snapshots: str = ""
    """A folder of each node for snapshots of views that are in memory alone; none without it."""
    host_connections: int = 0
    """What hosts of the write side open to Postgres at most, all together."""
    wanted: Mapping[str, int] = field(default_factory=dict)
    """What operators have set, by target of `rayfold scale`; goes before the numbers above."""

    def place_of(self, store: str) -> Place:
        """Return where a durable store is; its URL is empty if there is none."""
        ours = {"postgres": self.postgres, "redis": self.redis}
        return Place(ours.get(store) or self.stores.get(store, ""), self.identity.stack)

    def stores_of(self, view: ViewDefinition) -> tuple[str, ...]:
        """Return the stores that a view names and this stack has."""
        return tuple(
            store for store in view.stores if store == "memory" or self.place_of(store).url
        )

    def number(self, store: str, view: str) -> int:
        """Return how often a view is kept in `memory`, or partitioned in another store."""
        ours = {"memory": self.memory_replicas, "postgres": self.postgres_partitions}
        default = ours.get(store, 1)
        return self.wanted.get(f"{store}:{view}", self.wanted.get(store, default))

    @property
    def made_with(self) -> str:
        """A short text, another one if actors that were made with other settings are no use."""
        told: tuple[str, ...]
        told = self.identity.domain, self.domain, self.eventstore, self.postgres, self.redis
        told = *told, *map(str, sorted(self.stores.items())), *map(str, self.identity)
        return hashlib.blake2b("\n".join(told).encode(), digest_size=5).hexdigest()
