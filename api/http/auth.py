"""Callers and what they may do, by bearer tokens with roles and permissions, or without tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple, Protocol

from api.http.problems import Problem

ANONYMOUS = "anonymous"


class Role(IntEnum):
    """What a caller may do; each role includes those before it."""

    PUBLIC = 0
    """What needs no token: health, the schema, the pages."""
    READER = 1
    """Queries."""
    WRITER = 2
    """Commands."""
    OPERATOR = 3
    """What changes the stack itself or shows its internals."""


class Access(NamedTuple):
    """What a route requires of its caller: a role, and a permission if the domain names one."""

    role: Role
    permission: str = ""


class Caller(NamedTuple):
    """Who calls. An operator has every permission. `tenant`: see `api.http.tenants`."""

    name: str
    role: Role
    permissions: Collection[str] = frozenset()
    tenant: str = ""

    def check(self, needed: Access) -> None:
        """Check that the caller has this access.

        Raises:
            Problem: 403 if not.
        """
        role, permission = needed
        if self.role < role:
            detail = f"{self.name} is a {self.role.name.lower()}; this needs the role "
            raise Problem(403, "forbidden", detail + role.name.lower())
        if permission and self.role < Role.OPERATOR and permission not in self.permissions:
            raise Problem(403, "forbidden", f"{self.name} lacks the permission {permission!r}")


EVERYBODY = Caller(ANONYMOUS, Role.OPERATOR)
"""The caller of every request if there are no tokens."""


class Token(NamedTuple):
    """A bearer token; `name` is the principal on the events of its commands."""

    name: str
    secret: str
    role: Role
    permissions: frozenset[str] = frozenset()
    tenant: str = ""
    """The tenant of the bearer; `*` for one who names a tenant in each request."""


class SignedTokens(Protocol):
    """See `api.http.signed_tokens.JwtTokens`."""

    async def caller(self, token: bytes) -> Caller | None:
        """Return the caller with this token; None if it is not a valid one."""
        ...


class Principals:
    """Callers by their tokens. Without any token everybody may call, as `anonymous`."""

    def __init__(self, tokens: Iterable[Token] = (), signed: SignedTokens | None = None) -> None:
        # By digest: the time of comparing digests does not reveal how much of a token was right.
        self._known = {
            _digest(token.secret.encode()): Caller(
                token.name, token.role, token.permissions, token.tenant
            )
            for token in tokens
        }
        self._signed = signed

    @property
    def open(self) -> bool:
        """Whether everybody may call, because there are no tokens."""
        return not self._known and self._signed is None

    @property
    def may_end(self) -> bool:
        """Whether a valid token may become invalid while this gateway runs."""
        return self._signed is not None

    async def of(self, headers: Mapping[bytes, bytes]) -> Caller:
        """Return the caller, by the token in the headers.

        Raises:
            Problem: 401 without a valid token; 503 if it cannot be verified now.
        """
        scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            secret = secret.strip()
            caller = self._known.get(_digest(secret))
            if caller is None and self._signed is not None:
                caller = await self._signed.caller(secret)
            if caller is not None:
                return caller
        raise Problem(
            401,
            "unauthorized",
            "this needs a valid bearer token",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=32).digest()
