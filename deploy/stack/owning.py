"""Owning a stack: from then on no other process starts, moves or ends its parts."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from actors.origins import PROCESSES, SCHEDULES
from deploy.errors import StartError
from deploy.stack import routing, survival, wanted
from deploy.stack.foundation import Foundation
from deploy.stack.identity import identify
from deploy.stack.lease import Lease, owner_of
from deploy.stack.left_behind import left_behind
from deploy.stack.routing import Routing
from deploy.stack.settings import Settings
from deploy.stack.starting import ANSWER_TIMEOUT, keep_going, why_no_answer
from eventstore.errors import StoreError
from eventstore.identity import store_id
from eventstore.kurrentdb.log import EventLog
from eventstore.tenancy import MixedTenancy, check_tenancy, mark_as_tenants
from rayfold import Registry
from rayfold.runtime.identity import Identity, domain_hash
from rayfold.runtime.postgres import FAILURES, Connection, connected, why

log = logging.getLogger(__name__)


class Owner(NamedTuple):
    """A candidate for ownership: one with the same name takes over at once."""

    name: str
    place: str

    @classmethod
    def of_folder(cls, data: Path) -> Owner:
        """Return the owner for the lock of a data folder."""
        return cls(owner_of(data), f"{socket.gethostname()}:{data}")


class Owned(NamedTuple):
    """What the owner's parts need to know."""

    identity: Identity
    epoch: int
    wanted: dict[str, int]
    """By target of `rayfold scale`: the numbers that operators have set."""
    before: dict[str, Any]
    """The routing document that the previous owner has left; empty if there was none."""
    taken_down: bool = False
    """Whether all parts were told to end while this one waited."""


async def own(
    settings: Settings,
    foundation: Foundation,
    owner: Owner,
    parts: AsyncExitStack,
    lost: Callable[[], None],
    *,
    stand_by: bool = False,
) -> Owned:
    """Own the stack until `parts` end, or until another owner takes it: then `lost` is called.

    With `stand_by`, wait as long as another process owns it.

    Raises:
        StartError: log, database and namespace do not belong together, or another stack uses them.
    """
    registry, eventstore, postgres = foundation.registry, foundation.eventstore, foundation.postgres
    store = await own_store_id(eventstore)
    domain = domain_hash(registry)
    try:
        async with connected(postgres, within=ANSWER_TIMEOUT) as connection:
            stack_id = await identify(connection, settings.stack, store, uuid4().hex[:12], domain)
            await _check_categories(connection, eventstore, registry)
            if registry.is_personal:
                await _check_keys(connection, eventstore)
            for sentence in await left_behind(connection, registry):
                log.warning("left behind: %s", sentence)
            known = await routing.read(connection)
        if settings.ray_address is not None:
            await asyncio.to_thread(_check_namespace, settings.stack, stack_id)
        lease = Lease(postgres, owner.name, owner.place)
        parts.push_async_callback(lease.release)
        await (lease.stand_by(domain) if stand_by else lease.take(domain, alone=True))
        await _check_tenancy(eventstore, registry)
        keep_going(partial(lease.hold, lost), "holding the lease", parts)
        async with connected(postgres, within=ANSWER_TIMEOUT) as connection:
            # This cannot wait until hosts are renewed: replaced hosts and dedicated actors have our
            # code before that, and write our events.
            await survival.note_event_types(connection, registry)
            before = await routing.read(connection) or Routing()
            return Owned(
                Identity(stack_id, store, domain, registry.tenants),
                lease.epoch,
                await wanted.load(connection),
                before.document,
                before != (known or Routing()) and "down" in before.document,
            )
    except FAILURES as error:
        raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error


async def _check_categories(connection: Connection, uri: str, registry: Registry) -> None:
    log = EventLog(uri)
    try:
        await survival.check_categories(connection, log, registry)
    except StoreError as error:
        raise StartError(f"the event store does not answer: {error}") from error
    finally:
        await log.close()


async def _check_keys(connection: Connection, uri: str) -> None:
    """Create the tables of keys, or check that they belong to the log and can be read.

    Raises:
        StartError: they do not, or cannot be read; or the log does not answer.
    """
    from eventstore.personal.master_keys import MasterKeys, NoMasterKey
    from eventstore.personal.postgres import destroy, prepare_keys
    from eventstore.personal.rewrapping import wrap_again
    from eventstore.personal.witness import witness

    event_log = EventLog(uri)
    try:
        here = await prepare_keys(connection)
        found = await witness(event_log, here.id)
    except StoreError as error:
        raise StartError(f"the event store does not answer: {error}") from error
    finally:
        await event_log.close()
    if found.keys != here.id and not here.lost:
        raise StartError(
            "the keys of the log's personal data are not in this database, and all of it would"
            " be unreadable: restore the tables rayfold_personal_key and"
            " rayfold_personal_forgotten. If they are lost for good, say so: UPDATE"
            " rayfold_personal_forgotten SET lost = true. How: docs/how-to/forget-a-person.md"
        )
    if again := await destroy(connection, found.destroyed):
        log.warning("destroyed keys of forgotten persons that had come back", extra={"keys": again})
    try:
        wrapped = await wrap_again(connection, MasterKeys())
    except NoMasterKey as error:
        raise StartError(str(error)) from error
    if wrapped:
        log.info("keys of persons are wrapped with another master key", extra={"keys": wrapped})


async def _check_tenancy(uri: str, registry: Registry) -> None:
    prefixes = [*registry.prefixes, PROCESSES, SCHEDULES]
    log = EventLog(uri)
    try:
        await check_tenancy(log, prefixes, tenants=registry.tenants)
        if registry.tenants:
            await mark_as_tenants(log)
    except MixedTenancy as error:
        raise StartError(str(error)) from error
    except StoreError as error:
        raise StartError(f"the event store does not answer: {error}") from error
    finally:
        await log.close()


async def own_store_id(uri: str) -> str:
    """Return the id of a log, which is created if it has none.

    Raises:
        StartError: the log does not answer.
    """
    eventstore = EventLog(uri)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await store_id(eventstore)
    except (StoreError, TimeoutError) as error:
        raise StartError(
            f"the event store does not say which it is: {why_no_answer(error)}"
        ) from error
    finally:
        await eventstore.close()


def _check_namespace(namespace: str, stack_id: str) -> None:
    """Refuse a namespace in which another stack has actors.

    The stacks would not interfere, as names include the stack's id, but operators could not tell
    their actors apart.
    """
    from ray.util import list_named_actors

    for actor in list_named_actors(all_namespaces=True):
        kind, _, rest = actor["name"].partition(":")
        other = rest.partition(":")[0]
        if actor["namespace"] == namespace and kind == "rayfold" and other != stack_id:
            raise StartError(
                f"another stack ({other}) is named {namespace!r} on this Ray cluster:"
                " give this one a --stack of its own"
            )
