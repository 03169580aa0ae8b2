"""A cluster that is played: three listeners, one store, and roles that a test changes."""

from __future__ import annotations

import ssl
from pathlib import Path

from eventstore.embedded.cluster.roles import Guard, Node, Roles
from eventstore.embedded.http2.server import GrpcServer
from eventstore.embedded.http2.tls import PASSWORD, USER
from eventstore.embedded.persistent.subsystem import Groups
from eventstore.embedded.rpc.node import NodeHandlers
from eventstore.embedded.rpc.services import build_methods
from eventstore.embedded.storage.store import Store

NODES = 3


class PlayedCluster:
    """Nodes that answer like a cluster's; a follower is never behind, because all share one log.

    Raises what `EmbeddedServer` does.
    """

    def __init__(
        self, data: Path, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self._data = data
        self._tls = tls
        self._host = host
        self._store: Store | None = None
        self._groups: Groups | None = None
        self._listeners: dict[Node, GrpcServer] = {}
        self.roles = Roles([Node(host) for _ in range(NODES)])

    @property
    def uri(self) -> str:
        """The connection string for clients: every node."""
        targets = ",".join(f"{node.host}:{node.port}" for node in self.roles.nodes)
        if self._tls is not None:
            return f"kdb://{USER}:{PASSWORD}@{targets}?Tls=true"
        return f"kdb://{targets}?Tls=false"

    async def start(self) -> None:
        """Open the folder and serve; the first node leads."""
        self._store = Store(self._data)
        self._groups = Groups(self._store)
        await self._store.start()
        self._groups.start()
        for node in self.roles.nodes:
            await self._listen(node)

    async def _listen(self, node: Node) -> None:
        assert self._store is not None
        assert self._groups is not None
        handlers = NodeHandlers(self._host, self.roles.members)
        methods = build_methods(self._store, self._groups, handlers)
        listener = GrpcServer(Guard(self.roles, node).methods(methods), self._tls)
        node.port = await listener.start(self._host, node.port)
        handlers.announce(node.port, [*methods.unary, *methods.streaming])
        self._listeners[node] = listener
        node.is_alive = True

    async def lead(self, number: int | None) -> None:
        """Make a node the leader; None begins an election. Groups drop their consumers."""
        self.roles.lead(None if number is None else self.roles.nodes[number])
        if self._groups is not None:
            await self._groups.restart()

    async def take_away(self, number: int) -> None:
        """End a node: gossip continues to list it in its last role, but as dead."""
        node = self.roles.nodes[number]
        node.is_alive = False
        if (listener := self._listeners.pop(node, None)) is not None:
            await listener.stop()

    async def bring_back(self, number: int) -> None:
        """Start a node again as a follower, or as the leader if no other node has become leader."""
        node = self.roles.nodes[number]
        await self._listen(node)
        self.roles.lead(self.roles.leader)

    async def stop(self) -> None:
        """End all nodes, then the store."""
        for number in range(NODES):
            await self.take_away(number)
        if self._groups is not None:
            await self._groups.stop()
        if self._store is not None:
            await self._store.stop()
