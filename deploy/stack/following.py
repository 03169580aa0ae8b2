"""The write and read sides of a gateway: they follow the routing table, and ask the controller."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from actors.write_gateway import WriteGateway
from deploy.stack.foundation import Foundation
from deploy.stack.membership import Membership
from deploy.stack.release import read_part
from deploy.stack.routing import Routing, RoutingFollower
from deploy.stack.settings import Settings
from deploy.stack.sides import read_settings, write_settings
from deploy.stack.starting import keep_going
from projections.read_gateway import ReadGateway
from rayfold.runtime.controller_rpc import ControllerClient, ControllerUnavailable
from rayfold.runtime.rpc import Address, RpcDisconnected

MAKING = 20.0
"""Seconds within which the controller starts an actor that a command waits for."""

ASKING = 2.0
"""Seconds within which it reports what it knows of a command."""


class Following:
    """Connects commands and queries to their actors, and other requests to the controller."""

    def __init__(self, settings: Settings, foundation: Foundation, member: Membership) -> None:
        self.release = member.identity.domain
        """The hash of this process's domain."""
        self._follower = RoutingFollower(foundation.postgres, member.routing, self._follow)
        self.controller = ControllerClient(lambda: _controller_of(self.routing))
        ours = (member.identity, foundation.eventstore, foundation.postgres)
        self.writes = WriteGateway(
            foundation.registry,
            write_settings(settings, *ours),
            make_dedicated=self._make_dedicated,
            ask_outcome=self._ask_outcome,
            look=self._follower.look,
        )
        self.reads = ReadGateway(
            foundation.registry,
            read_settings(settings, foundation.registry, *ours, redis=foundation.redis),
        )

    @property
    def routing(self) -> Routing:
        """The current routing table."""
        return self._follower.routing

    async def start(self, parts: AsyncExitStack) -> None:
        """Start with the known table, and follow newer ones until `parts` ends."""
        parts.callback(self.controller.close)
        parts.push_async_callback(self.writes.stop)
        parts.push_async_callback(self.reads.stop)
        self._follow(self.routing)
        self.writes.start()
        await self.reads.start()
        keep_going(self._follower.run, "following the routing table", parts)

    def _follow(self, routing: Routing) -> None:
        if "write" in routing.document:  # otherwise all parts were told to end
            self.writes.follow(routing.epoch, routing.document["write"])
            self.reads.follow(read_part(routing.document, self.release))

    async def _make_dedicated(self, stream: str) -> None:
        try:
            await self.controller.call("write.make_dedicated", MAKING, stream=stream)
        # Another controller takes over, before the command's deadline.
        except ControllerUnavailable as error:
            raise RpcDisconnected(str(error)) from error

    async def _ask_outcome(self, command_id: str) -> Any:
        try:
            return await self.controller.call("write.outcome", ASKING, command_id=command_id)
        except ControllerUnavailable:  # as far as we know, no writer remembers it
            return None


def _controller_of(routing: Routing) -> Address | None:
    at = routing.document.get("controller")
    return None if at is None else Address(at["host"], at["port"], bytes.fromhex(at["key"]))
