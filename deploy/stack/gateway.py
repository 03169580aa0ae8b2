"""`rayfold gateway`: one of many, which answers clients, and neither makes nor ends a part."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from deploy.stack import folder, listening
from deploy.stack.http_front import serve_http
from deploy.stack.membership import Membership, find_membership
from deploy.stack.remote_operations import RemoteOperations, RemoteProcesses, RemotePublications
from deploy.stack.roles import Cluster, check, join, unless, until_stopped
from deploy.stack.routing import Routing, RoutingFollower
from deploy.stack.settings import Settings
from deploy.stack.sides import read_settings, write_settings
from deploy.stack.starting import keep_going
from deploy.stack.up import load_registry
from rayfold.runtime.controller_rpc import ControllerClient, ControllerUnavailable
from rayfold.runtime.rpc import Address

MAKING = 20.0
"""Seconds in which the controller makes an actor that a command waits for."""

ASKING = 2.0
"""Seconds in which it says what it knows of a command."""


async def run(settings: Settings) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code.

    Raises:
        StartError: it cannot start.
    """
    stop = asyncio.Event()
    os.umask(0o077)
    listening.check(settings.host, settings.port, open_to_all=settings.is_open)
    check(settings, "gateway")

    async def role(parts: AsyncExitStack, retake_signals: Callable[[], None]) -> None:
        # Several on one machine share no folder: only one that is given says there where it is.
        if "data" in settings.model_fields_set:
            parts.enter_context(folder.locked(settings.data))

        async def joining() -> tuple[Cluster, Membership]:
            registry = load_registry(settings.domain)
            member = await find_membership(settings, registry)  # quicker than joining Ray
            return await join(settings, registry, parts, stop, retake_signals), member

        joined = await unless(stop, joining())
        if joined is not None:
            await _serve(settings, *joined, parts, stop, retake_signals)

    return await until_stopped(role, stop)


async def _serve(
    settings: Settings,
    cluster: Cluster,
    member: Membership,
    parts: AsyncExitStack,
    stop: asyncio.Event,
    retake_signals: Callable[[], None],
) -> None:
    from actors.schedules.schedules import Schedules
    from actors.write_gateway import WriteGateway
    from eventstore.kurrentdb.log import EventLog
    from projections.read_gateway import ReadGateway

    registry, eventstore, postgres = cluster.registry, cluster.eventstore, cluster.postgres
    controller = ControllerClient(lambda: _controller_of(follower.routing))
    parts.callback(controller.close)

    async def make_dedicated(stream: str) -> None:
        await controller.call("write.make_dedicated", MAKING, stream=stream)

    async def ask_outcome(command_id: str) -> Any:
        try:
            return await controller.call("write.outcome", ASKING, command_id=command_id)
        except ControllerUnavailable:  # nobody remembers it, as far as we know
            return None

    def follow(routing: Routing) -> None:
        if "write" in routing.document:  # else all parts were told to end
            writes.follow(routing.epoch, routing.document["write"])
            reads.follow(routing.document["read"])

    follower = RoutingFollower(postgres, member.routing, follow)
    writes = WriteGateway(
        registry,
        write_settings(settings, member.identity, eventstore, postgres),
        make_dedicated=make_dedicated,
        ask_outcome=ask_outcome,
        look=follower.look,
    )
    parts.push_async_callback(writes.stop)
    reads = ReadGateway(registry, read_settings(settings, member.identity, eventstore, postgres))
    parts.push_async_callback(reads.stop)
    store = EventLog(eventstore)
    parts.push_async_callback(store.close)
    follow(member.routing)
    writes.start()
    await reads.start()
    keep_going(follower.run(), parts)
    keep_going(cluster.ray.watch([writes, reads], retake_signals), parts)

    def serving() -> None:
        if "data" in settings.model_fields_set:
            folder.announce(settings.data, listening.local_url(settings.host, settings.port))

    await serve_http(
        settings,
        registry,
        writes,
        reads,
        RemoteOperations(writes, reads.monitor, controller, cluster.servers),
        RemoteProcesses(controller),
        Schedules(store),
        RemotePublications(controller),
        writes,
        stop,
        serving,
    )


def _controller_of(routing: Routing) -> Address | None:
    at = routing.document.get("controller")
    return None if at is None else Address(at["host"], at["port"], bytes.fromhex(at["key"]))
