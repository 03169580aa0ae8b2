"""Who is calling: static bearer tokens, or anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from api.http.problems import Problem

ANONYMOUS = "anonymous"


class Principals:
    """Names by token. Without any token everybody may call, as `anonymous`."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        # By digest: comparing digests tells nothing about how much of a token was right.
        self._names = {_digest(token.encode()): name for token, name in tokens.items()}

    def of(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the caller's name.

        Raises:
            Problem: 401 without a known token, where tokens are asked for.
        """
        if not self._names:
            return ANONYMOUS
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        name = self._names.get(_digest(token.strip())) if scheme.lower() == b"bearer" else None
        if name is None:
            raise Problem(
                401,
                "unauthorized",
                "this needs a known bearer token",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return name


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=32).digest()
