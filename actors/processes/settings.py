"""The settings of process managers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.errors import BadScale
from rayfold import Registry
from rayfold.runtime.identity import Identity
from rayfold.runtime.placing import Anywhere, Placing

MOST = 64
"""The default number of partitions of a process manager."""

KIND = "process"


@dataclass(frozen=True)
class ProcessSettings:
    """`domain` is a package, `eventstore` a URI, `postgres` a DSN: without it there is no index.

    `wanted` has the numbers that operators have set, by target of `rayfold scale`. `detached`
    actors outlive the process that started them.
    """

    domain: str
    eventstore: str
    postgres: str = ""
    namespace: str = "rayfold"
    identity: Identity = field(default_factory=Identity)
    wanted: Mapping[str, int] = field(default_factory=dict)
    detached: bool = False
    placing: Placing = field(default_factory=Anywhere)

    def partitions(self, name: str) -> int:
        """Return the wanted number of partitions of a process manager."""
        return self.wanted.get(f"{KIND}:{name}", 1)


def manager_of(registry: Registry, target: str, number: int) -> str:
    """Return the process manager that a target of `rayfold scale` names.

    Raises:
        BadScale: there is no such manager, or the number is not possible.
    """
    kind, _, name = target.partition(":")
    if kind != KIND or name not in registry.processes:
        known = ", ".join(f"{KIND}:{each}" for each in registry.processes) or "none"
        raise BadScale(f"{target!r} names no process manager; there are: {known}")
    if not 1 <= number <= MOST:
        raise BadScale(f"{target} goes from 1 to {MOST}, not {number}")
    return name
