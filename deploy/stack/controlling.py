"""`rayfold controller`: one controller owns the stack, the others wait for its lease.

When it ends, the parts of the stack, which are detached, and gateways go on by its last table.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from uuid import uuid4

from deploy.errors import StartError
from deploy.stack import publishing, routing
from deploy.stack.display import Display
from deploy.stack.foundation import Foundation
from deploy.stack.governing import Government
from deploy.stack.http_front import say
from deploy.stack.owning import Owned, Owner, own
from deploy.stack.parts_left import named_parts
from deploy.stack.release import Release, ReleaseWatch, refuse, wanted_release
from deploy.stack.roles import check, join, unless, until_stopped
from deploy.stack.seat import Seat
from deploy.stack.settings import Settings
from deploy.stack.starting import ANSWER_TIMEOUT, Lifetime, keep_going
from deploy.stack.up import load_registry
from projections.errors import WouldPark
from rayfold.runtime.identity import domain_hash
from rayfold.runtime.postgres import FAILURES, LastingConnection, connected, why

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two checks whether our release is published."""


async def run(settings: Settings, seat: Seat) -> int:
    """Run until SIGINT or SIGTERM, until a successor takes over, or until the stack is taken down.

    Return the exit code.

    Raises:
        StartError: it cannot start.
    """
    stop = asyncio.Event()
    os.umask(0o077)
    check(settings, "controller")

    async def role(life: Lifetime) -> None:
        registry = load_registry(settings)
        publishing.check(settings, registry)
        foundation = await unless(stop, join(settings, registry, life))
        if foundation is None:
            return
        watch = ReleaseWatch(foundation.postgres, domain_hash(registry), seat.wanted)
        keep_going(watch.run, "watching for a release", life.parts)
        keep_going(partial(seat.watch, stop.set), "watching for a successor", life.parts)
        ready = partial(_say_ready, foundation.postgres, domain_hash(registry), seat)
        keep_going(ready, "saying that it is ready", life.parts)

        def taken_down() -> None:
            seat.taken_down()
            stop.set()

        await _terms(settings, foundation, life, taken_down)

    return await until_stopped(role, stop)


async def _say_ready(dsn: str, own: str, seat: Seat) -> None:
    """Report readiness once our release is published, by us or by the controller we stand by for.

    Not earlier: the previous controller stands by meanwhile, and owns the stack again if this
    release does not start and the previous one is wanted.
    """
    postgres = LastingConnection(dsn, timeout=ANSWER_TIMEOUT, command_timeout=ANSWER_TIMEOUT)
    try:
        while True:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    table = await routing.read(await postgres.get())
            except FAILURES as error:
                postgres.close()
                log.info("the routing table cannot be read", extra={"error": repr(error)})
            else:
                if table is not None and table.document.get("domain") == own:
                    seat.ready()
                    return
            await asyncio.sleep(LOOK)
    finally:
        postgres.close()


async def _terms(
    settings: Settings, foundation: Foundation, life: Lifetime, taken_down: Callable[[], None]
) -> None:
    """Own the stack whenever no other controller does, until told to stop."""
    stop = life.stop
    this = Owner(uuid4().hex, f"a controller on {socket.gethostname()}, process {os.getpid()}")
    while not stop.is_set():
        async with AsyncExitStack() as parts:
            term, lost = life._replace(parts=parts), asyncio.Event()
            owning = own(settings, foundation, this, parts, lost.set, stand_by=True)
            owned = await unless(stop, owning)
            if owned is None:
                return
            if owned.taken_down:
                log.warning("the stack was taken down while this one stood by")
                taken_down()
                return
            follows = await unless(stop, _check_domain(settings, foundation.postgres, owned))
            if not await _govern(settings, foundation, owned, term, lost, taken_down, follows):
                return


async def _govern(
    settings: Settings,
    foundation: Foundation,
    owned: Owned,
    term: Lifetime,
    lost: asyncio.Event,
    taken_down: Callable[[], None],
    follows: Release | None,
) -> bool:
    """Run the stack's parts until told to stop, or return True once another controller owns it.

    `follows` is our release if another one serves, which would then go on; None if nothing else
    serves.
    """
    government = Government(
        settings,
        foundation,
        owned,
        detached=True,
        stop=taken_down,
        accept_parked=follows is None or follows.accept_parked,
    )
    both = asyncio.Event()
    watching = [asyncio.create_task(_pass_on(each, both)) for each in (term.stop, lost)]
    try:
        display = Display()
        with display.shown():
            started = await unless(both, government.start(term.parts, display))
        if started is not None:
            foundation.watch_ray(government.sides, term)
            say(f"ready {settings.stack}, epoch {owned.epoch}")
            await both.wait()
    except WouldPark as error:
        if follows is not None:
            await _give_up(foundation.postgres, follows, str(error))
        raise
    finally:
        for each in watching:
            each.cancel()
    return lost.is_set() and not term.stop.is_set()


async def _pass_on(event: asyncio.Event, to: asyncio.Event) -> None:
    await event.wait()
    to.set()


async def _give_up(postgres: str, own: Release, why_not: str) -> None:
    """Let the previous release go on; `rayfold upgrade` reports why."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT), connected(postgres) as connection:
            await refuse(connection, own, why_not)
    except FAILURES as error:  # the next attempt reports it again
        log.error("a release could not be marked as refused", extra={"error": repr(error)})


async def _check_domain(settings: Settings, postgres: str, owned: Owned) -> Release | None:
    """Refuse to start parts of one domain beside those of another, except in an upgrade.

    Return our release if it follows another one.

    Raises:
        StartError: parts of another domain run; or ours was refused.
    """
    ran = owned.before.get("domain", owned.identity.domain)
    if ran == owned.identity.domain:
        return None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT), connected(postgres) as connection:
            release = await wanted_release(connection)
    except FAILURES as error:
        raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error
    if release is not None and release.hash == owned.identity.domain:
        if release.refused:
            raise StartError(
                f"release {release.number} was refused: {release.refused}: to try it"
                " again, run `rayfold upgrade`"
            )
        log.warning(
            "a new release replaces another", extra={"before": ran, "number": release.number}
        )
        return release
    if await asyncio.to_thread(named_parts, settings.stack, owned.identity.stack):
        raise StartError(
            f"the parts of the stack {settings.stack!r} run another domain ({ran}, here"
            f" {owned.identity.domain}): give that one, change it by `rayfold upgrade`, or end them"
            " with `rayfold down`"
        )
    return None
