"""Who is calling, and what they may do: bearer tokens with roles, or everybody."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from api.http.problems import Problem

ANONYMOUS = "anonymous"


class Role(IntEnum):
    """What a caller may do; each includes those before it."""

    PUBLIC = 0
    """What nobody needs a token for: health, the schema, the pages."""
    READER = 1
    """Queries."""
    WRITER = 2
    """Commands."""
    OPERATOR = 3
    """What changes the stack itself, or shows its inside."""


class Token(NamedTuple):
    """A bearer token; `name` is the principal on the events of its commands."""

    name: str
    secret: str
    role: Role


class Principals:
    """Callers by their tokens. Without any token everybody may call, as `anonymous`."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        # By digest: comparing digests tells nothing about how much of a token was right.
        self._known = {_digest(token.secret.encode()): token for token in tokens}

    @property
    def open(self) -> bool:
        """Whether everybody may call."""
        return not self._known

    def of(self, headers: Mapping[bytes, bytes], needed: Role) -> str:
        """Return the caller's name.

        Raises:
            Problem: 401 without a known token where one is asked for; 403 if it is not enough.
        """
        if not self._known:
            return ANONYMOUS
        scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
        token = self._known.get(_digest(secret.strip())) if scheme.lower() == b"bearer" else None
        if token is None:
            raise Problem(
                401,
                "unauthorized",
                "this needs a known bearer token",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if token.role < needed:
            detail = f"{token.name} is a {token.role.name.lower()}; this needs a "
            raise Problem(403, "forbidden", detail + needed.name.lower())
        return token.name


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=32).digest()
