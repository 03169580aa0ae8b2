"""The tenant of a request: that of its token, or `Rayfold-Tenant` if the token may name any."""

from __future__ import annotations

from api.http import headers as read
from api.http.auth import Caller, Role
from api.http.headers import Headers
from api.http.problems import Problem

VARY = (b"vary", b"rayfold-tenant")
"""Tells caches that answers differ by tenant."""

ANY = "*"
"""The tenant of a caller who names a tenant in each request."""


def tenant_of(caller: Caller, headers: Headers) -> str:
    """Return the tenant of a request's command or query.

    Raises:
        Problem: 400 if no tenant is named or the name is invalid; 403 if the caller belongs to
            another tenant, or may not name one.
    """
    named = read.tenant(headers)
    own = caller.tenant or (ANY if caller.role is Role.OPERATOR else "")
    if not own:
        raise Problem(403, "no-tenant", f"{caller.name} belongs to no tenant, and may not name one")
    if own != ANY:
        if named not in (None, own):
            raise Problem(403, "other-tenant", f"{caller.name} belongs to another tenant")
        return own
    if named is None:
        raise Problem(
            400, "tenant-needed", f"{caller.name} belongs to no tenant: name one in Rayfold-Tenant"
        )
    return named


def check_none(headers: Headers) -> None:
    """Check that no tenant is named on a stack without tenants, where all data is shared.

    Raises:
        Problem: 400 if one is named.
    """
    if b"rayfold-tenant" in headers:
        raise Problem(
            400, "no-tenants", "this stack does not serve tenants: everybody would see what is sent"
        )


def check_operator(caller: Caller) -> None:
    """Check that a caller may see what concerns all tenants.

    Raises:
        Problem: 403 if the caller belongs to one tenant.
    """
    if caller.tenant not in ("", ANY):
        raise Problem(
            403, "forbidden", f"{caller.name} belongs to a tenant, and this concerns all of them"
        )
