"""JSON Web Tokens of an identity provider (RFC 7519): their bearers and what these may do.

The signature must be by one of the provider's published keys, with an algorithm by which only the
provider can sign: neither `none` nor a shared secret. Issuer, audience and times are checked
(RFC 8725).
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jwt

from api.http.auth import ANONYMOUS, Caller, Role
from api.http.signing_keys import SigningKeys
from rayfold.foreign_json import UNREADABLE
from rayfold.tenants import is_tenant

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")

LEEWAY = 30
"""Seconds by which clocks may differ."""

REMEMBERED = 10_000
"""The number of valid tokens that are remembered, and not verified again until keys are fetched."""

MAX_NAME = 256

_INTERNAL = "process:"
"""The prefix of the principals of our own process managers."""


@dataclass(frozen=True)
class JwtClaims:
    """The claims that a provider uses; `roles` are the values that stand for each of our roles."""

    issuer: str
    audience: str
    principal: str = "sub"
    role: str = "roles"
    permission: str = "permissions"
    roles: Mapping[str, Role] = field(
        default_factory=lambda: {role.name.lower(): role for role in Role if role}
    )
    tenant: str = ""
    """Empty if no claim has the tenant."""


class _Good(NamedTuple):
    """A valid token. It expires by the wall clock; the provider's keys, by the monotonic clock."""

    caller: Caller
    ends: int
    keys_end: float


class JwtTokens:
    """Callers by the tokens that a provider has signed."""

    def __init__(self, claims: JwtClaims, keys: SigningKeys) -> None:
        self._claims = claims
        self._keys = keys
        self._good: OrderedDict[bytes, _Good] = OrderedDict()
        """By a token's digest, since a token may be as long as a request's head."""

    async def caller(self, token: bytes) -> Caller | None:
        """Return the caller; None if the token is not the provider's, has expired, or has no role.

        Raises:
            Problem: 503 while the provider's keys are not known.
        """
        place = hashlib.blake2b(token, digest_size=32).digest()
        known = self._good.get(place)
        if known is not None:
            if known.ends > time.time() and known.keys_end > time.monotonic():
                return known.caller
            del self._good[place]
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, *UNREADABLE):
            return None
        for key in await self._keys.of(key_id):
            claims = self._verified(token, key)
            if claims is not None:
                return self._remembered(place, claims)
        return None

    def _verified(self, token: bytes, key: jwt.PyJWK) -> dict[str, Any] | None:
        try:
            return jwt.decode(
                token,
                key,
                # The algorithm is that of the key, never the one that the token names.
                algorithms=[key.algorithm_name] if key.algorithm_name in ALGORITHMS else [],
                audience=self._claims.audience,
                issuer=self._claims.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, TypeError, OverflowError, *UNREADABLE):
            return None

    def _remembered(self, place: bytes, claims: dict[str, Any]) -> Caller | None:
        name = claims.get(self._claims.principal)
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            return None
        if name == ANONYMOUS or name.startswith(_INTERNAL):
            return None
        roles = self._claims.roles
        said = [roles[each] for each in _texts(claims, self._claims.role) if each in roles]
        if not said:
            return None
        tenant = self._tenant(claims)
        if tenant is None:
            return None
        permissions = frozenset(_texts(claims, self._claims.permission))
        caller = Caller(name, max(said), permissions, tenant)
        keys_end = time.monotonic() + self._keys.seconds_left
        self._good[place] = _Good(caller, int(claims["exp"]) + LEEWAY, keys_end)
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)
        return caller

    def _tenant(self, claims: dict[str, Any]) -> str | None:
        """Return the token's tenant; empty if it has no such claim; None if the claim is invalid.

        A claim that does not name exactly one tenant is never taken for no tenant: without a tenant
        a caller might see all of them.
        """
        found = _found(claims, self._claims.tenant) if self._claims.tenant else None
        if found is None:
            return ""
        if isinstance(found, list) and len(found) == 1:
            [found] = found
        return found if isinstance(found, str) and is_tenant(found) else None


def _found(claims: dict[str, Any], path: str) -> Any:
    """Return the value of a claim, None if there is no such claim; `a.b` is b in a."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
    return found


def _texts(claims: dict[str, Any], path: str) -> list[str]:
    """Return the texts of a claim: a list, or words as in OAuth's `scope`."""
    found = _found(claims, path)
    if isinstance(found, str):
        return found.split()
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
