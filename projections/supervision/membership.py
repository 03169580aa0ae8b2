"""Checks that the log and the database that an actor reaches belong to its stack."""

from __future__ import annotations

import asyncio
import logging

import asyncpg

from eventstore.errors import StoreError
from eventstore.identity import store_id
from eventstore.port import Log
from projections.errors import WrongStack
from rayfold import DomainError
from rayfold.runtime.identity import Identity
from rayfold.runtime.node import node_name
from rayfold.runtime.postgres import FAILURES, connected

log = logging.getLogger(__name__)

SOON = 1.0
"""Seconds within which the first caller gets the result, if the servers answer."""

RETRY = 1.0
"""Seconds until a server that did not answer is asked again."""

TIMEOUT = 5.0
"""Seconds for Postgres to answer."""


class Membership:
    """Checks the log and Postgres once; the actor's work waits for both."""

    def __init__(self, identity: Identity, log: Log, postgres: str | None) -> None:
        """`postgres` is a DSN; None for an actor that can work without it while it is away."""
        self._identity = identity
        self._log = log
        self._postgres = postgres
        self._asking: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Return at once if it is a member, and soon if that is unknown.

        Raises:
            WrongStack: it is connected to another stack's store.
        """
        asking = self._asked()
        if not asking.done():
            await asyncio.wait([asking], timeout=SOON)
        if asking.done():
            asking.result()

    async def confirmed(self) -> None:
        """Return once it is a member.

        Raises:
            WrongStack: it is not.
        """
        await asyncio.shield(self._asked())

    def _asked(self) -> asyncio.Task[None]:
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return self._asking

    async def _ask(self) -> None:
        if self._identity.store:
            found = await self._store_id()
            try:
                self._identity.check_store(found)
            except DomainError as error:
                raise WrongStack(str(error)) from error
        if self._identity.stack and self._postgres is not None:
            stack = await self._stack_of(self._postgres)
            if stack not in (None, self._identity.stack):
                raise WrongStack(
                    f"node {node_name()} reaches the database of another stack"
                    f" ({stack}, not {self._identity.stack})"
                )

    async def _store_id(self) -> str:
        while True:
            try:
                return await store_id(self._log)
            except StoreError as error:
                log.info("the log's id cannot be read", extra={"error": str(error)})
            await asyncio.sleep(RETRY)

    async def _stack_of(self, dsn: str) -> str | None:
        while True:
            try:
                async with connected(dsn, timeout=TIMEOUT, command_timeout=TIMEOUT) as connection:
                    found: str | None = await connection.fetchval("SELECT id FROM rayfold_stack")
                    return found
            except asyncpg.UndefinedTableError:
                return None  # it belongs to no stack
            except FAILURES as error:
                log.info("the database's owner cannot be read", extra={"error": repr(error)})
            await asyncio.sleep(RETRY)
