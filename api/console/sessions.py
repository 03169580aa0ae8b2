"""Sessions of the console: what a browser shows in place of the operator's token.

A browser has a random text. What all gateways can find by it is the token, encrypted under a key
made of that text: neither what a browser keeps nor what the gateways keep is of use without the
other. The token itself is checked with each request, as any other: a session counts as long as
its token does, and for `LASTS` at most.
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
"""A key encrypts one token, ever."""


class SessionsLost(Exception):
    """Where sessions are kept cannot be asked now."""


class KeptSessions(Protocol):
    """Where sessions are kept for all gateways; each method may raise `SessionsLost`."""

    async def keep(self, name: bytes, sealed: bytes, seconds: float) -> None:
        """Keep what is sealed under a name for so long."""
        ...

    async def find(self, name: bytes) -> bytes | None:
        """Return what is kept under a name, None if there is nothing or it is over."""
        ...

    async def drop(self, name: bytes) -> None:
        """Keep it no more."""
        ...


class _Remembered(NamedTuple):
    token: bytes
    ends: float
    is_kept: bool = True
    """Whether it has been kept for all gateways: then it counts as long as it is found there."""


class Sessions:
    """Begins, finds and ends them.

    The console is needed most while something is down. A gateway remembers the sessions that it
    has met, and goes by that as long as it cannot ask where they are kept.
    """

    def __init__(self, kept: KeptSessions) -> None:
        self._kept = kept
        self._remembered: dict[bytes, _Remembered] = {}

    async def begin(self, token: bytes) -> bytes:
        """Return the text of a new session of whoever has shown this token."""
        text = secrets.token_urlsafe(32).encode()
        name, key = _derived(text)
        now = time.monotonic()
        self._remembered = {k: v for k, v in self._remembered.items() if v.ends > now}
        remembered = self._remembered[name] = _Remembered(token, now + LASTS)
        try:
            await self._kept.keep(name, _cipher(key).encrypt(_NONCE, token, None), LASTS)
        except SessionsLost as error:
            self._remembered[name] = remembered._replace(is_kept=False)
            log.warning("a session counts at this gateway alone", extra={"reason": error})
        return text

    async def token(self, text: bytes) -> bytes | None:
        """Return the token of a session; None where there is no such session, or no more.

        Raises:
            Problem: 503 if nobody can tell.
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
                # Of another gateway, which knows when it ends: asked for as long as it can be.
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
            log.warning("a session ends by its time alone", extra={"reason": error})
            return False
        return True


def _unavailable(error: SessionsLost) -> Problem:
    detail = "who is signed in is not known now"
    problem = Problem(503, "sessions-unavailable", detail, headers={"Retry-After": "1"})
    problem.said = f"{detail}: {error}"  # with addresses, and anybody may ask
    return problem


def _derived(text: bytes) -> tuple[bytes, bytes]:
    """Return the name and the key that are made of a session's text."""
    name = hashlib.blake2b(text, digest_size=32, person=b"session name").digest()
    key = hashlib.blake2b(text, digest_size=32, person=b"session key").digest()
    return name, key


def _cipher(key: bytes) -> AESGCM:
    # Imported once somebody has signed in: it takes 7 MB, which a gateway at rest does without.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)
