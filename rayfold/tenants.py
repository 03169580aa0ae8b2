"""Tenants: the owner of an aggregate, a row or a process, as a prefix of its id.

On a stack that serves tenants, the text of an id is `<tenant>:<id>`: in the names of streams
(`order-acme:<uuid>`) and in the keys of rows and processes. So two tenants that use the same id
have separate streams, rows and processes, and code that looks something up by such a text stays
within one tenant without knowing about tenants. The gateway adds the tenant, and a domain never
sees it. A stack without tenants has plain ids.
"""

from __future__ import annotations

import re

TENANT = "_tenant"
"""The index name under which rows are found by tenant; no field begins with an underscore."""

MARK = ":"
"""Separates tenant and id. No tenant's name has it, so the first one in a text ends the name."""

NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
"""The form of a tenant's name. No upper case: the store ignores the case of some stream names."""

_NAME = re.compile(rf"{NAME}\Z")

_PROCESS = "process"


class NoTenant(ValueError):
    """Something belongs to no tenant, on a stack where everything belongs to one."""


def is_tenant(name: str) -> bool:
    """Return whether this is a valid name for a tenant."""
    return _NAME.match(name) is not None


def within(tenant: str, text: str) -> str:
    """Return an id's text with the tenant before it; unchanged if `tenant` is empty."""
    return f"{tenant}{MARK}{text}" if tenant else text


def tenant_of(text: str) -> str:
    """Return the tenant of an id's text, on a stack that serves tenants.

    Raises:
        NoTenant: the text has none.
    """
    tenant, mark, _ = text.partition(MARK)
    if not mark or not is_tenant(tenant):
        raise NoTenant(
            f"{text[:80]!r} is of no tenant: it does not begin with one's name and a colon"
        )
    return tenant


def tenant_of_stream(stream: str) -> str:
    """Return the tenant of an aggregate's or a process's stream, on a stack that serves tenants.

    Raises:
        NoTenant: the stream has none.
    """
    category, _, text = stream.partition("-")
    if category == _PROCESS:  # `process-<name>-<key>`
        text = text.partition("-")[2]
    return tenant_of(text)
