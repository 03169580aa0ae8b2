"""`rayfold gateway`: one of many, which answers clients, and neither makes nor ends a part."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from deploy.errors import StartError
from deploy.stack import folder, listening
from deploy.stack.http_front import serve_http
from deploy.stack.membership import Membership, NotRunYet, find_membership
from deploy.stack.presence import Presence
from deploy.stack.release import Release, ReleaseWatch, read_part
from deploy.stack.remote_operations import RemoteOperations, RemoteProcesses, RemotePublications
from deploy.stack.roles import Cluster, check, join, unless, until_stopped
from deploy.stack.routing import Routing, RoutingFollower
from deploy.stack.seat import Seat
from deploy.stack.settings import Settings
from deploy.stack.sides import read_settings, write_settings
from deploy.stack.starting import keep_going
from deploy.stack.up import load_registry
from rayfold import Registry
from rayfold.runtime.controller_rpc import ControllerClient, ControllerUnavailable
from rayfold.runtime.postgres import FAILURES, why
from rayfold.runtime.rpc import Address, RpcDisconnected

log = logging.getLogger(__name__)

MAKING = 20.0
"""Seconds in which the controller makes an actor that a command waits for."""

ASKING = 2.0
"""Seconds in which it says what it knows of a command."""


DRAIN = 8.0
"""Seconds in which clients may ask once more on connections that they have: most let go of those
that rest for five."""

BUILDING = 3600.0
"""Seconds in which the views of another release are built."""

LOOK = 0.5
"""Seconds between two looks whether there is a read side for our release."""


async def run(settings: Settings, seat: Seat, wait: float) -> int:
    """Serve until SIGINT or SIGTERM, or until a successor does; return the exit code.

    `wait` is the seconds that the first controller of the stack has to come.

    Raises:
        StartError: it cannot start.
    """
    stop = asyncio.Event()
    os.umask(0o077)
    check(settings, "gateway")

    async def role(parts: AsyncExitStack, retake_signals: Callable[[], None]) -> None:
        # Several on one machine share no folder: only one that is given says there where it is.
        if "data" in settings.model_fields_set:
            parts.enter_context(folder.locked(settings.data))

        async def joining() -> tuple[Cluster, Membership]:
            registry = load_registry(settings)
            member = await _served(
                settings, registry, seat, wait
            )  # before joining Ray, which is slow
            return await join(settings, registry, parts, stop, retake_signals), member

        joined = await unless(stop, joining())
        if joined is not None:
            await _serve(settings, *joined, parts, stop, retake_signals, seat)

    return await until_stopped(role, stop)


async def _first_membership(settings: Settings, registry: Registry, wait: float) -> Membership:
    """Return what stack it is once a controller has run it; where all starts at once, we wait.

    Raises:
        NotRunYet: none has in so many seconds.
        StartError: what was given does not belong together.
    """
    deadline, said = time.monotonic() + wait, False
    while True:
        try:
            return await find_membership(settings, registry)
        except NotRunYet:
            if not time.monotonic() < deadline:
                raise
        if not said:
            said = True
            extra = {"stack": settings.stack, "seconds": wait}
            log.warning("waiting for the first controller of the stack", extra=extra)
        await asyncio.sleep(LOOK)


async def _served(settings: Settings, registry: Registry, seat: Seat, wait: float) -> Membership:
    """Wait until our release is served, where it is the one that is wanted; say which is, else."""
    said = False
    member = await _first_membership(settings, registry, wait)
    while not member.is_served:
        assert member.wanted is not None
        if not said:
            said = True
            log.warning("waiting for the release", extra={"wanted": member.wanted.domain})
        if member.wanted.hash != member.identity.domain:
            seat.wanted(member.wanted)
        await asyncio.sleep(LOOK)
        member = await find_membership(settings, registry)
    return member


async def _serve(
    settings: Settings,
    cluster: Cluster,
    member: Membership,
    parts: AsyncExitStack,
    stop: asyncio.Event,
    retake_signals: Callable[[], None],
    seat: Seat,
) -> None:
    from actors.schedules.schedules import Schedules
    from actors.write_gateway import WriteGateway
    from eventstore.personal.opening import open_log
    from projections.read_gateway import ReadGateway

    registry, eventstore, postgres = cluster.registry, cluster.eventstore, cluster.postgres
    own, place = member.identity.domain, f"{socket.gethostname()}:{settings.port}"
    controller = ControllerClient(lambda: _controller_of(follower.routing))
    parts.callback(controller.close)

    async def make_dedicated(stream: str) -> None:
        try:
            await controller.call("write.make_dedicated", MAKING, stream=stream)
        except ControllerUnavailable as error:  # another one comes, before the command's deadline
            raise RpcDisconnected(str(error)) from error

    async def ask_outcome(command_id: str) -> Any:
        try:
            return await controller.call("write.outcome", ASKING, command_id=command_id)
        except ControllerUnavailable:  # nobody remembers it, as far as we know
            return None

    def follow(routing: Routing) -> None:
        if "write" in routing.document:  # else all parts were told to end
            writes.follow(routing.epoch, routing.document["write"])
            reads.follow(read_part(routing.document, own))

    follower = RoutingFollower(postgres, member.routing, follow)
    writes = WriteGateway(
        registry,
        write_settings(settings, member.identity, eventstore, postgres),
        make_dedicated=make_dedicated,
        ask_outcome=ask_outcome,
        look=follower.look,
    )
    parts.push_async_callback(writes.stop)
    reads = ReadGateway(
        registry,
        read_settings(
            settings, registry, member.identity, eventstore, postgres, redis=cluster.redis
        ),
    )
    parts.push_async_callback(reads.stop)
    store = open_log(eventstore, registry, postgres)
    parts.push_async_callback(store.close)
    follow(member.routing)
    writes.start()
    await reads.start()
    keep_going(follower.run, "following the routing table", parts)
    keep_going(partial(cluster.ray.watch, [writes, reads], retake_signals), "watching Ray", parts)
    keep_going(cluster.ray.answers.watch, "asking Ray's processes", parts)

    def another_is_wanted(release: Release) -> None:
        if follower.routing.document.get("domain") == release.hash:  # it could serve now
            seat.wanted(release)

    if seat.follows or member.routing.document.get("previous"):
        # Somebody else answers meanwhile, who can.
        await reads.monitor.caught_up(BUILDING)

    presence = Presence(postgres, place, own)
    try:
        await presence.enter()
    except FAILURES as error:
        raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error
    parts.push_async_callback(presence.leave)
    keep_going(presence.run, "telling of the gateway", parts)
    releases = ReleaseWatch(postgres, own, another_is_wanted)
    keep_going(releases.run, "watching for a release", parts)
    keep_going(partial(seat.watch, stop.set), "watching for a successor", parts)

    def serving() -> None:
        url = listening.local_url(settings.host, settings.port)
        if "data" in settings.model_fields_set:
            folder.announce(settings.data, url)

    def ready() -> None:
        seat.ready(listening.local_url(settings.host, settings.port))

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
        seat.listening
        or listening.bound(settings.host, settings.port, open_to_all=settings.is_open, shared=True),
        stop,
        serving,
        ready,
        drain=DRAIN,
    )


def _controller_of(routing: Routing) -> Address | None:
    at = routing.document.get("controller")
    return None if at is None else Address(at["host"], at["port"], bytes.fromhex(at["key"]))
