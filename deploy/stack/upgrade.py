"""`rayfold upgrade`: sets the release to run, once it can read the log, and follows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from deploy.errors import StartError
from deploy.stack import identity as identities
from deploy.stack import release, routing, survival
from deploy.stack.lease import LENGTH
from deploy.stack.left_behind import left_behind
from deploy.stack.presence import gateways_of
from deploy.stack.settings import Settings
from eventstore.errors import StoreError
from eventstore.identity import store_id
from eventstore.personal.opening import open_log
from eventstore.tenancy import is_of_tenants
from rayfold import DomainError, Registry
from rayfold.runtime.identity import domain_hash
from rayfold.runtime.postgres import FAILURES, connect, why

if TYPE_CHECKING:
    from rayfold.runtime.postgres import Connection

ANSWER = 15.0
"""Seconds for Postgres and the store to answer."""

TIMEOUT = 600.0
"""Seconds for the whole upgrade, in which changed views are rebuilt from the log."""

LOOK = 0.5
"""Seconds between two checks of the progress."""


class Progress(NamedTuple):
    """The progress of an upgrade: it is done when nothing is left."""

    owned: bool
    """Whether a controller of the release owns the stack."""
    controller: bool
    """Whether a controller has published its read side, and the stack was not taken down since."""
    gateways: list[str]
    """The places of gateways that still run another release."""
    before: bool
    """Whether actors of the previous release are left."""

    @property
    def is_done(self) -> bool:
        """Whether the whole stack runs the release."""
        return self.controller and not self.gateways and not self.before

    def __str__(self) -> str:
        """Return it as a sentence."""
        if not self.controller and not self.owned:
            return (
                "waiting for a controller of the new release: if none comes, its log says"
                " why, or none was started"
            )
        if not self.controller:
            return "a controller of the new release builds its views"
        if self.gateways:
            return f"gateways of the release before: {', '.join(self.gateways)}"
        return "write hosts hand over" if self.before else "done"


async def upgrade(
    settings: Settings,
    say: Callable[[str], None],
    *,
    accept_parked: bool = False,
    wait: bool = True,
    timeout: float = TIMEOUT,
) -> None:
    """Check a domain, set it as wanted, and wait until the whole stack runs it.

    Raises:
        StartError: it could not read the log, or its views would serve less than the live ones,
            which `accept_parked` allows: nothing has changed. Or it is not done in time: the stack
            goes on changing.
    """
    if settings.postgres is None or settings.eventstore is None:
        raise StartError(
            "give --eventstore and --postgres: what `rayfold up` has started itself"
            " is upgraded by stopping it and starting the new one"
        )
    try:
        registry = await asyncio.to_thread(Registry.load, settings.domain, tenants=settings.tenants)
    except DomainError as error:
        raise StartError(*error.mistakes) from error
    hash_ = domain_hash(registry)
    try:
        async with asyncio.timeout(ANSWER):
            connection = await connect(settings.postgres)
    except FAILURES as error:
        raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error
    try:
        if await connection.fetchval("SELECT to_regclass('rayfold_stack')") is None:
            say("nothing has run on this database yet: there is nothing to upgrade")
            return
        await _check(connection, settings, registry, settings.eventstore, say)
        if (await progress_of(connection, hash_)).is_done:
            say("this release runs already: nothing is restarted")
        wanted = await release.want(
            connection,
            settings.domain,
            hash_,
            settings.runtime_env,
            accept_parked=accept_parked,
        )
        say(f"release {wanted.number} is wanted: {settings.domain} ({hash_})")
        if wait:
            await _follow(connection, hash_, say, timeout)
    except FAILURES as error:
        raise StartError(f"Postgres does not answer: {why(error)}; ask again") from error
    finally:
        connection.terminate()


async def progress_of(connection: Connection, hash_: str) -> Progress:
    """Return the progress of a release."""
    table = await routing.read(connection)
    document = table.document if table is not None else {}
    others = [each.place for each in await gateways_of(connection) if each.domain != hash_]
    owner = await identities.read(connection)
    return Progress(
        owner is not None
        and owner["domain"] == hash_
        and await identities.owned_now(connection, LENGTH),
        document.get("domain") == hash_ and "down" not in document,
        others,
        bool(document.get("previous")),
    )


async def _check(
    connection: Connection,
    settings: Settings,
    registry: Registry,
    eventstore: str,
    say: Callable[[str], None],
) -> None:
    stack = await connection.fetchrow("SELECT * FROM rayfold_stack")
    if stack is None or stack["name"] != settings.stack:
        found = None if stack is None else stack["name"]
        raise StartError(f"the database belongs to the stack {found!r}, not to {settings.stack!r}")
    table = await routing.read(connection)
    if table is not None and table.document.get("detached") is False:
        raise StartError(
            f"the stack is run by {stack['place']}, a `rayfold up`: stop that one, and start it"
            " with the new domain"
        )
    log = open_log(eventstore, registry, settings.postgres)
    try:
        async with asyncio.timeout(ANSWER):
            store = await store_id(log)
        if store != stack["store"]:
            raise StartError(f"the stack {settings.stack!r} is of another event store: {store}")
        if await is_of_tenants(log) is not registry.tenants:
            raise StartError("an upgrade cannot turn tenants on or off: give the same `tenants`")
        await survival.check_event_types(connection, registry)
        await survival.check_categories(connection, log, registry)
        read = await survival.check_log(log, registry)
    except (StoreError, TimeoutError) as error:
        raise StartError(f"the event store does not answer: {error}") from error
    finally:
        await log.close()
    say(f"the new domain reads the log: {read:,} events were tried")
    for sentence in await left_behind(connection, registry):
        say(f"left behind: {sentence}")


async def _follow(
    connection: Connection, hash_: str, say: Callable[[str], None], timeout: float
) -> None:
    until = time.monotonic() + timeout
    said = ""
    while (now := str(await progress_of(connection, hash_))) != said or now != "done":
        if now != said:
            say(now)
            said = now
        if now == "done":
            return
        wanted = await release.wanted_release(connection)
        if wanted is not None and wanted.hash != hash_:
            raise StartError(
                f"{wanted.domain} was asked for meanwhile, as release {wanted.number}, instead"
            )
        if wanted is not None and wanted.refused:
            raise StartError(
                f"release {wanted.number} is refused, and the old one goes on: {wanted.refused}",
                "correct the fold and upgrade again; or accept this with --accept-parked",
            )
        if time.monotonic() > until:
            raise StartError(
                f"not done after {timeout:.0f} s, and going on: {now}; if a successor does not"
                " start, the log of its controller or gateway says why; it is safe to ask for"
                " another release, or for the one before"
            )
        await asyncio.sleep(LOOK)
