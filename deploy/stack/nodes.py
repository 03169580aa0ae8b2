"""The nodes of a Ray cluster, and choosing one for each actor.

Ray's own strategies only consider an actor's neighbours by chance. Here each actor goes to the node
with the fewest actors that must not fail together with it, then the fewest of all. The affinity is
soft: if the node is gone or full, Ray takes another one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from deploy.stack.settings import Settings

log = logging.getLogger(__name__)

SUSPECT = 30.0
"""Seconds for which a node is avoided after an actor fell silent there: Ray takes about as long to
detect that it is gone.
"""

CLAIMS: Mapping[str, Mapping[str, float]] = {
    "write": {"CPU": 0.1},
    "dedicated": {"CPU": 0.01},
    "memory": {"CPU": 0.1},
    "postgres": {"CPU": 0.1},
    "process": {"CPU": 0.1},
}
"""Claims on a shared cluster: small, as there are many parts that are mostly idle, but not zero, so
that nodes without CPUs get none of them and Ray's autoscaler sees the demand.
"""


class Node(NamedTuple):
    """A living node; `resources` are its total resources."""

    id: str
    address: str
    resources: Mapping[str, float] = {}
    name: str = ""
    """The node's name according to its processes."""


class Nodes:
    """Places the actors of one stack; see `rayfold.runtime.placing.Placing`."""

    def __init__(
        self,
        alive: Callable[[], Sequence[Node]],
        affinity: Callable[[str], Any],
        claims: Mapping[str, Mapping[str, float]] = CLAIMS,
    ) -> None:
        """`alive` returns Ray's nodes; `affinity` returns Ray's strategy for a node id.

        `claims` has the claims by kind of actor: `CPU`, and custom resources.
        """
        self._alive = alive
        self._affinity = affinity
        self._claims = claims
        self._placed: dict[str, tuple[str, str]] = {}
        """By actor name: its node, and the group that it is kept apart from."""
        self._kinds: dict[str, str] = {}
        self._suspects: dict[str, float] = {}
        self._names: dict[str, str] = {}
        """By name: the ids of the nodes when one was last chosen."""
        self._lock = threading.Lock()  # hosts are created in threads

    def options(self, name: str, kind: str, apart: str) -> dict[str, Any]:
        """See `Placing.options`."""
        claims = {"CPU": 0.0, **self._claims.get(kind, {})}
        nodes = self._alive()
        with self._lock:
            self._placed.pop(name, None)
            self._kinds[name] = kind
            self._names = {each.name: each.id for each in nodes}
            node = self._choose(nodes, claims, apart)
            has_room = any(self._has_room(each, claims) for each in nodes)
            if node is not None:
                self._placed[name] = node.id, apart
        if nodes and not has_room:  # Ray says nothing, and waits
            claimed = {resource: claim for resource, claim in claims.items() if claim}
            said = "no node has enough resources for a part: it waits; see the setting `claims`"
            log.warning(said, extra={"part": name, "claims": claimed})
        options: dict[str, Any] = {"num_cpus": claims.pop("CPU"), "resources": claims}
        if node is not None:
            options["scheduling_strategy"] = self._affinity(node.id)
        return options

    def suspect(self, name: str) -> None:
        """See `Placing.suspect`."""
        with self._lock:
            if name in self._placed:
                self._suspects[self._placed[name][0]] = time.monotonic() + SUSPECT

    def found(self, name: str, apart: str, node: str) -> None:
        """See `Placing.found`."""
        with self._lock:
            if name in self._kinds and (known := self._names.get(node)) is not None:
                self._placed[name] = known, apart

    def misplaced(self, name: str) -> bool:
        """See `Placing.misplaced`."""
        if not self._is_crowded(name):  # asking Ray is more expensive
            return False
        nodes = self._alive()
        with self._lock:
            self._names = {each.name: each.id for each in nodes}
            _, apart = self._placed.get(name, ("", ""))
            taken = {node for node, other in self._placed.values() if other == apart}
            claims = {"CPU": 0.0, **self._claims.get(self._kinds.get(name, ""), {})}
            now = time.monotonic()
            return any(
                node.id not in taken
                and _has(node, claims)
                and self._suspects.get(node.id, 0.0) <= now
                for node in nodes
            )

    def _is_crowded(self, name: str) -> bool:
        with self._lock:
            if name not in self._placed:
                return False
            mine = self._placed[name]
            return list(self._placed.values()).count(mine) > 1

    def ended(self, name: str) -> None:
        """See `Placing.ended`."""
        with self._lock:
            self._placed.pop(name, None)
            self._kinds.pop(name, None)

    def _has_room(self, node: Node, claims: Mapping[str, float]) -> bool:
        """Tell whether it has that beside what our own parts there claim."""
        left = dict(node.resources)
        for name, (there, _) in self._placed.items():
            if there == node.id:
                for resource, claim in self._claims.get(self._kinds.get(name, ""), {}).items():
                    left[resource] = left.get(resource, 0.0) - claim
        return _has(node._replace(resources=left), claims)

    def _choose(
        self, nodes: Sequence[Node], claims: Mapping[str, float], apart: str
    ) -> Node | None:
        now = time.monotonic()
        near = Counter(node for node, other in self._placed.values() if other == apart)
        all_there = Counter(node for node, _ in self._placed.values())
        able = [node for node in nodes if _has(node, claims)]
        return min(
            able,
            key=lambda node: (
                self._suspects.get(node.id, 0.0) > now,
                near[node.id],
                all_there[node.id],
            ),
            default=None,
        )


def _has(node: Node, claims: Mapping[str, float]) -> bool:
    return all(
        round(node.resources.get(name, 0.0) - claim, 6) >= 0.0  # twenty tenths are more than two
        for name, claim in claims.items()
        if claim
    )


def alive_nodes() -> list[Node]:
    """Return the nodes that Ray's head knows, none if it does not answer; blocks."""
    import ray

    try:
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
    except Exception as error:  # Ray may raise anything here
        log.warning("the nodes are not known", extra={"error": error})
        return []
    return [
        Node(
            each["NodeID"],
            each["NodeManagerAddress"],
            each["Resources"],
            each["NodeManagerHostname"],
        )
        for each in nodes
        if each["Alive"]
    ]


def cluster_nodes() -> tuple[str, list[Node]]:
    """Return the address of our own node, and all living nodes; blocks."""
    import ray

    return ray.util.get_node_ip_address(), alive_nodes()  # type: ignore[no-untyped-call]


def soft_affinity(node: str) -> Any:
    """Return Ray's strategy for an actor that should run there, or else anywhere."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=True)


def placing_of(settings: Settings) -> Nodes:
    """Return the placement of a stack's parts for these settings."""
    claims = {kind: dict(claim) for kind, claim in CLAIMS.items() if settings.ray_address}
    for kind, given in settings.claims.items():
        claims[kind] = claims.get(kind, {}) | given
    return Nodes(alive_nodes, soft_affinity, claims)
