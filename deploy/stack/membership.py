"""The stack that a gateway belongs to, according to database, log and routing table."""

from __future__ import annotations

from typing import NamedTuple

from deploy.errors import StartError
from deploy.stack import identity as identities
from deploy.stack import routing
from deploy.stack.owning import own_store_id
from deploy.stack.release import Release, is_known, wanted_release
from deploy.stack.routing import Routing
from deploy.stack.settings import Settings
from deploy.stack.starting import ANSWER_TIMEOUT
from rayfold import Registry
from rayfold.runtime.identity import Identity, domain_hash
from rayfold.runtime.postgres import FAILURES, connected, why


class NotRunYet(StartError):
    """The database belongs to no stack yet, or no controller has published its routes."""


class Membership(NamedTuple):
    """The membership of a stack that an owner has run before."""

    identity: Identity
    routing: Routing
    wanted: Release | None = None
    """The wanted release, if one was set."""

    @property
    def is_served(self) -> bool:
        """Whether there is a read side for our release."""
        return is_known(self.routing.document, self.identity.domain)


async def find_membership(settings: Settings, registry: Registry) -> Membership:
    """Return the stack's membership; nothing is written.

    Raises:
        NotRunYet: no controller has run it yet.
        StartError: log, database, domain and namespace do not belong together.
    """
    assert settings.eventstore is not None
    assert settings.postgres is not None
    store = await own_store_id(settings.eventstore)
    try:
        async with connected(settings.postgres, within=ANSWER_TIMEOUT) as connection:
            row = await identities.read(connection)
            table = await routing.read(connection) if row is not None else None
            wanted = await wanted_release(connection)
    except (*FAILURES, ValueError) as error:
        raise StartError(f"Postgres does not answer: {why(error)}: check --postgres") from error
    if row is not None:
        identities.check(row, settings.stack, store)
    if row is None or table is None:
        raise NotRunYet(
            f"no controller has run the stack {settings.stack!r} on this database yet:"
            " start `rayfold controller`"
        )
    domain = domain_hash(registry)
    runs = table.document["domain"]
    if wanted is None and runs != domain:
        raise StartError(
            f"the stack {settings.stack!r} runs another domain ({runs}, here {domain}):"
            " give the same --domain, in the same version, and the same `tenants`"
        )
    return Membership(Identity(str(row["id"]), store, domain, registry.tenants), table, wanted)
