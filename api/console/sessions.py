"""Sessions of the console: a browser sends a session in place of the operator's token.

A browser keeps a random text. By it, all gateways find the token, encrypted with a key derived from
that text: neither what the browser keeps nor what the gateways keep is useful without the other.
The token itself is checked in each request, as any other: a session is valid as long as its token
is, and at most for `LASTS` seconds.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from api.http.problems import Problem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

log = logging.getLogger(__name__)

LASTS = 8 * 3600
"""Seconds after which an operator signs in again."""

_NONCE = bytes(12)
"""A constant is safe, because each key encrypts only one token."""


class SessionsLost(Exception):
    """The store of sessions cannot be reached now."""


class KeptSessions(Protocol):
    """The store of sessions, shared by all gateways; each method may raise `SessionsLost`."""

    async def keep(self, name: bytes, sealed: bytes, seconds: float) -> None:
        """Keep sealed data under a name for so many seconds."""
        ...

    async def find(self, name: bytes) -> bytes | None:
        """Return the sealed data under a name; None if there is none or it has expired."""
        ...

    async def drop(self, name: bytes) -> None:
        """Delete the data under a name."""
        ...


class _Remembered(NamedTuple):
    token: bytes
    ends: float
    is_kept: bool = True
    """Whether it is in the store for all gateways: then it is valid while it is found there."""


class Sessions:
    """Begins, finds and ends sessions.

    The console is needed most while something is down. So a gateway remembers the sessions that it
    has seen, and uses these while it cannot reach the store.
    """

    def __init__(self, kept: KeptSessions) -> None:
        self._kept = kept
        self._remembered: dict[bytes, _Remembered] = {}

    async def begin(self, token: bytes) -> bytes:
        """Return the text of a new session for this token."""
        text = secrets.token_urlsafe(32).encode()
        name, key = _derived(text)
        now = time.monotonic()
        self._remembered = {k: v for k, v in self._remembered.items() if v.ends > now}
        remembered = self._remembered[name] = _Remembered(token, now + LASTS)
        try:
            await self._kept.keep(name, _cipher(key).encrypt(_NONCE, token, None), LASTS)
        except SessionsLost as error:
            self._remembered[name] = remembered._replace(is_kept=False)
            log.warning("a console session is known to this gateway only", extra={"reason": error})
        return text

    async def token(self, text: bytes) -> bytes | None:
        """Return the token of a session; None if there is no such session or it has ended.

        Raises:
            Problem: 503 if the session is unknown here and the store cannot be reached.
        """
        name, key = _derived(text)
        remembered = self._remembered.get(name)
        try:
            sealed = await self._kept.find(name)
        except SessionsLost as error:
            if remembered is None:
                raise _unavailable(error) from error
        else:
            if sealed is None:
                if remembered is None or remembered.is_kept:
                    self._remembered.pop(name, None)
                    return None
            elif remembered is None or not remembered.is_kept:
                # Another gateway began it. The store knows its end, and is asked while possible.
                token = _cipher(key).decrypt(_NONCE, sealed, None)
                remembered = self._remembered[name] = _Remembered(token, time.monotonic() + LASTS)
        return remembered.token if remembered.ends > time.monotonic() else None

    async def end(self, text: bytes) -> bool:
        """End a session; return whether it has ended at every gateway."""
        name, _ = _derived(text)
        self._remembered.pop(name, None)
        try:
            await self._kept.drop(name)
        except SessionsLost as error:
            log.warning(
                "a console session could not be ended at other gateways before its time is over",
                extra={"reason": error},
            )
            return False
        return True


def _unavailable(error: SessionsLost) -> Problem:
    detail = "whether you are signed in cannot be checked now"
    problem = Problem(503, "sessions-unavailable", detail, headers={"Retry-After": "1"})
    problem.said = f"{detail}: {error}"  # has addresses, and the request needs no token
    return problem


def _derived(text: bytes) -> tuple[bytes, bytes]:
    """Return the name and the key that are derived from a session's text."""
    name = hashlib.blake2b(text, digest_size=32, person=b"session name").digest()
    key = hashlib.blake2b(text, digest_size=32, person=b"session key").digest()
    return name, key


def _cipher(key: bytes) -> AESGCM:
    # Imported at the first sign-in, as it takes 7 MB.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
