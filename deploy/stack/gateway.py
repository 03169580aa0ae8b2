"""`rayfold gateway`: one of many that answer clients; it neither starts nor ends parts."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from deploy.errors import StartError
from deploy.stack import folder, listening
from deploy.stack.foundation import Foundation
from deploy.stack.http_front import serve_http
from deploy.stack.membership import Membership, NotRunYet, find_membership
from deploy.stack.presence import Presence
from deploy.stack.release import Release, ReleaseWatch
from deploy.stack.remote_operations import RemoteOperations, RemoteProcesses, RemotePublications
from deploy.stack.roles import check, join, unless, until_stopped
from deploy.stack.seat import Seat
from deploy.stack.settings import Settings
from deploy.stack.starting import Lifetime, keep_going
from deploy.stack.up import load_registry
from rayfold import Registry
from rayfold.runtime.postgres import FAILURES, why

if TYPE_CHECKING:
    from deploy.stack.following import Following

log = logging.getLogger(__name__)

DRAIN = 8.0
"""Seconds in which clients can send further requests on open connections: most close idle
connections after five.
"""

BUILDING = 3600.0
"""Seconds within which the views of another release are built."""

LOOK = 0.5
"""Seconds between two checks whether there is a read side for our release."""


async def run(settings: Settings, seat: Seat, wait: float) -> int:
    """Serve until SIGINT or SIGTERM, or until a successor takes over; return the exit code.

    `wait` is the number of seconds to wait for the stack's first controller.

    Raises:
        StartError: it cannot start.
    """
    stop = asyncio.Event()
    os.umask(0o077)
    check(settings, "gateway")

    async def role(life: Lifetime) -> None:
        # Several gateways on one machine have no common folder: the address is only written to one
        # that was given.
        if "data" in settings.model_fields_set:
            life.parts.enter_context(folder.locked(settings.data))

        async def joining() -> tuple[Foundation, Membership]:
            registry = load_registry(settings)
            # This comes before joining Ray, which is slow.
            member = await _served(settings, registry, seat, wait)
            return await join(settings, registry, life), member

        joined = await unless(stop, joining())
        if joined is not None:
            await _serve(settings, *joined, life, seat)

    return await until_stopped(role, stop)


async def _first_membership(settings: Settings, registry: Registry, wait: float) -> Membership:
    """Return the stack's membership once a controller has run it; this waits if all start together.

    Raises:
        NotRunYet: none has within that time.
        StartError: the given servers do not belong together.
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
    """Wait until our release is served, if it is wanted; otherwise report the wanted one."""
    said = False
    member = await _first_membership(settings, registry, wait)
    while not member.is_served:
        assert member.wanted is not None
        if not said:
            said = True
            log.warning("waiting for the release", extra={"wanted": member.wanted.domain})
        if not member.wanted.lets_run(member.identity.domain):
            seat.wanted(member.wanted)
        await asyncio.sleep(LOOK)
        member = await find_membership(settings, registry)
    return member


async def _serve(
    settings: Settings,
    foundation: Foundation,
    member: Membership,
    life: Lifetime,
    seat: Seat,
) -> None:
    # Imported here, since they import Ray, which then reads its environment.
    from actors.schedules.schedules import Schedules
    from api.ports import Ports
    from deploy.stack.console_sessions import PostgresSessions
    from deploy.stack.following import Following
    from eventstore.personal.opening import open_log

    log = open_log(foundation.eventstore, foundation.registry, foundation.postgres)
    life.parts.push_async_callback(log.close)
    sessions = PostgresSessions(foundation.postgres)
    life.parts.callback(sessions.close)
    sides = Following(settings, foundation, member)
    writes, reads, controller = sides.writes, sides.reads, sides.controller

    async def begun() -> bool:
        await sides.start(life.parts)
        foundation.watch_ray([writes, reads], life)
        if seat.follows or member.routing.document.get("previous"):
            # Another gateway answers meanwhile.
            await reads.monitor.caught_up(BUILDING)
        await _enter(settings, foundation.postgres, sides, life, seat)
        return True

    if not await unless(life.stop, begun()):
        return

    def serving() -> None:
        if "data" in settings.model_fields_set:
            folder.announce(settings.data, listening.local_url(settings.host, settings.port))

    def ready() -> None:
        seat.ready(listening.local_url(settings.host, settings.port))

    ports = Ports(
        commands=writes.bus,
        queries=reads.bus,
        histories=reads.history,
        operations=RemoteOperations(writes, reads.monitor, controller, foundation.servers),
        processes=RemoteProcesses(controller),
        schedules=Schedules(log),
        publications=RemotePublications(controller),
        outcomes=writes,
        browser=reads.browser,
        audit=reads.audit,
        sessions=sessions,
    )
    await serve_http(
        settings,
        foundation.registry,
        ports,
        reads.monitor,
        seat.listening
        or listening.bound(settings.host, settings.port, open_to_all=settings.is_open, shared=True),
        life.stop,
        serving,
        ready,
        drain=DRAIN,
    )


async def _enter(
    settings: Settings,
    postgres: str,
    sides: Following,
    life: Lifetime,
    seat: Seat,
) -> None:
    """Register as a gateway of the release until `life` ends, and make room for a successor.

    Raises:
        StartError: Postgres does not answer.
    """
    presence = Presence(postgres, f"{socket.gethostname()}:{settings.port}", sides.release)
    try:
        await presence.enter()
    except FAILURES as error:
        raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error
    life.parts.push_async_callback(presence.leave)
    keep_going(presence.run, "telling of the gateway", life.parts)

    def another_is_wanted(release: Release) -> None:
        if sides.routing.document.get("domain") == release.hash:  # a successor could serve now
            seat.wanted(release)

    releases = ReleaseWatch(postgres, sides.release, another_is_wanted)
    keep_going(releases.run, "watching for a release", life.parts)
    keep_going(partial(seat.watch, life.stop.set), "watching for a successor", life.parts)
