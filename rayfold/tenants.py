"""Tenants: the owner of an aggregate, a row or a process, as a prefix of its id.

Where a stack serves tenants, the text of an id is `<tenant>:<id>`: in the names of streams
(`order-acme:<uuid>`), in the keys of rows and in those of processes. So two tenants that use one id
have two of everything, and whatever finds things by such a text stays within a tenant without
knowing of any. The gateway puts a tenant there, and a domain never sees it. Where a stack serves
none, nothing of this is anywhere.
"""

from __future__ import annotations

import re

TENANT = "_tenant"
"""What a row's tenant is called where rows are found by it; no field begins with an underscore."""

MARK = ":"
"""Between a tenant and an id: no tenant has it in its name, so that the first one ends the name."""

NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
"""Without upper case: the store tells some streams apart without their case."""

_NAME = re.compile(rf"{NAME}\Z")

_PROCESS = "process"


class NoTenant(ValueError):
    """Something of no tenant, where everything is of one."""


def is_tenant(name: str) -> bool:
    """Return whether a tenant may have that name."""
    return _NAME.match(name) is not None


def within(tenant: str, text: str) -> str:
    """Return an id's text within a tenant; as it is where there are no tenants."""
    return f"{tenant}{MARK}{text}" if tenant else text


def tenant_of(text: str) -> str:
    """Return the tenant of an id's text, where there are tenants.

    Raises:
        NoTenant: it has none.
    """
    tenant, mark, _ = text.partition(MARK)
    if not mark or not is_tenant(tenant):
        raise NoTenant(
            f"{text[:80]!r} is of no tenant: it does not begin with one's name and a colon"
        )
    return tenant


def tenant_of_stream(stream: str) -> str:
    """Return the tenant of an aggregate's stream, or of a process's, where there are tenants.

    Raises:
        NoTenant: it has none.
    """
    category, _, text = stream.partition("-")
    if category == _PROCESS:  # `process-<name>-<key>`
        text = text.partition("-")[2]
    return tenant_of(text)
