"""Who leads, and what a node says to a call that demands the leader when it is not."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field

from kurrentdbclient.protos.v1.gossip_pb2 import MemberInfo

from eventstore.embedded.protocol.call import Call, Methods, Streaming, Unary
from eventstore.embedded.protocol.errors import RpcError, not_leader, not_ready, timed_out
from eventstore.embedded.rpc.node import State, member_info
from eventstore.embedded.rpc.v2_errors import not_leader_node

_V2 = "/kurrentdb.protocol."
_READ = "/event_store.client.streams.Streams/Read"
_GROUP_READ = "/event_store.client.persistent_subscriptions.PersistentSubscriptions/Read"
_STAYS = (_READ, _GROUP_READ)
"""Calls that continue when the leader changes. Any node serves reads; groups drop consumers."""


@dataclass(eq=False)
class Node:
    """A node: its address, and whether it listens."""

    host: str
    port: int = 0
    is_alive: bool = True
    state: State = MemberInfo.Follower
    instance: str = field(default_factory=lambda: str(uuid.uuid4()))


class Roles:
    """The nodes of a cluster. `leader` is None while an election is on."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.leader: Node | None = nodes[0]
        self.epoch = 0
        self._changed = asyncio.Event()
        self.lead(nodes[0])

    def lead(self, leader: Node | None) -> None:
        """Change the leader. A node that is away keeps its role, as in real gossip."""
        self.leader = leader
        for node in self.nodes:
            if node.is_alive:
                follows = MemberInfo.Unknown if leader is None else MemberInfo.Follower
                node.state = MemberInfo.Leader if node is leader else follows
        self.epoch += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def members(self) -> list[MemberInfo]:
        """Return the members as in gossip."""
        return [
            member_info(each.state, each.host, each.port, each.instance, is_alive=each.is_alive)
            for each in self.nodes
        ]

    async def demotion(self, node: Node) -> None:
        """Return once this node is not the leader."""
        while node is self.leader:
            await self._changed.wait()


class Guard:
    """One node's handlers, which serve calls for the leader only while this node leads."""

    def __init__(self, roles: Roles, node: Node) -> None:
        self._roles = roles
        self._node = node

    def methods(self, methods: Methods) -> Methods:
        """Return the same handlers, guarded."""
        return Methods(
            {path: self._unary(path, handler) for path, handler in methods.unary.items()},
            {path: self._streaming(path, handler) for path, handler in methods.streaming.items()},
        )

    def _unary(self, path: str, handler: Unary) -> Unary:
        async def guarded(raw: bytes, call: Call) -> bytes:
            if not _demands_leader(path, call):
                return await handler(raw, call)
            self._check(path)
            epoch = self._roles.epoch
            answer = await handler(raw, call)
            if self._roles.epoch != epoch:
                # The outcome of a pending call is open; here it is done, but not acknowledged.
                raise timed_out("the leader has changed")
            return answer

        return guarded

    def _streaming(self, path: str, handler: Streaming) -> Streaming:
        async def guarded(call: Call) -> None:
            if not _demands_leader(path, call):
                await handler(call)
                return
            self._check(path)
            if path in _STAYS:
                await handler(call)
                return
            serving = asyncio.ensure_future(handler(call))
            demoted = asyncio.ensure_future(self._roles.demotion(self._node))
            try:
                await asyncio.wait((serving, demoted), return_when=asyncio.FIRST_COMPLETED)
                if not serving.done():
                    raise self._refusal(path)
                await serving
            finally:
                for task in (serving, demoted):
                    task.cancel()
                await asyncio.gather(serving, demoted, return_exceptions=True)

        return guarded

    def _check(self, path: str) -> None:
        if self._roles.leader is not self._node:
            raise self._refusal(path)

    def _refusal(self, path: str) -> RpcError:
        leader = self._roles.leader
        if leader is None:
            return not_ready()
        if path.startswith(_V2):
            return not_leader_node(leader.host, leader.port, leader.instance)
        return not_leader(leader.host, leader.port)


def _demands_leader(path: str, call: Call) -> bool:
    """Return whether a call requires the leader; a real follower forwards those that do not."""
    if path.startswith(_V2):
        return True
    return call.header("requires-leader") == "true" and not path.endswith("Gossip/Read")
