"""Owning a stack: after this, whatever is started, moved or ended is nobody else's."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from deploy.errors import StartError
from deploy.stack import wanted
from deploy.stack.identity import identify
from deploy.stack.lease import Lease, owner_of
from deploy.stack.settings import Settings
from deploy.stack.starting import ANSWER_TIMEOUT, keep_going, why_no_answer
from eventstore.errors import StoreError
from eventstore.identity import store_id
from eventstore.kurrentdb.log import EventLog
from rayfold import Registry
from rayfold.runtime.identity import domain_hash
from rayfold.runtime.postgres import FAILURES, connect

log = logging.getLogger(__name__)


class Owned(NamedTuple):
    """What the owner's parts must be told."""

    stack_id: str
    wanted: dict[str, int]
    """By target of `rayfold scale`: what operators have set."""


async def own(
    settings: Settings,
    registry: Registry,
    eventstore: str,
    postgres: str,
    data: Path,
    parts: AsyncExitStack,
    lost: Callable[[], None],
) -> Owned:
    """Own the stack until `parts` end, or another owner takes it: then `lost` is called.

    Raises:
        StartError: log, database and namespace do not belong together, or somebody has them.
    """
    store = await _store_id(eventstore)
    domain = domain_hash(registry)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            connection = await connect(postgres)
        try:
            stack_id = await identify(connection, settings.stack, store, uuid4().hex[:12], domain)
            if settings.ray_address is not None:
                await asyncio.to_thread(_check_namespace, settings.stack, stack_id)
            lease = Lease(postgres, owner_of(data), f"{socket.gethostname()}:{data}")
            await lease.take(domain)
            parts.push_async_callback(lease.release)
            keep_going(lease.hold(lost), parts)
            return Owned(stack_id, await wanted.load(connection))
        finally:
            connection.terminate()
    except FAILURES as error:
        raise StartError(f"Postgres does not answer: {error}: check --postgres") from error


async def _store_id(uri: str) -> str:
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

    They would never meet, as names have the stack's id; but neither would operators know which
    is which.
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
