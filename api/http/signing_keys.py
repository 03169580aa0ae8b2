"""The keys with which an identity provider signs, as published by it (JWKS, RFC 7517)."""

from __future__ import annotations

import asyncio
import logging
import time

import httpx
import jwt

from api.http.problems import unavailable

log = logging.getLogger(__name__)

REFRESH = 600.0
"""Seconds after which the keys are fetched again, and withdrawn keys are no longer accepted."""

PAUSE = 10.0
"""The least seconds between two fetches, even if tokens name unknown keys."""

TIMEOUT = 5.0

MAX_BYTES = 256 * 1024


class SigningKeys:
    """The keys, fetched when they are needed, and kept while the provider does not answer."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._transport = transport
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def of(self, key_id: str | None) -> list[jwt.PyJWK]:
        """Return the keys that may have signed a token: the one with `key_id`, or all if None.

        Raises:
            Problem: 503 as long as none are known.
        """
        if time.monotonic() - self._fetched_at > REFRESH or (
            key_id is not None and not self._named(key_id)
        ):
            await self._fetch()
        if not self._keys:
            raise unavailable("keys-unavailable", "the identity provider's keys are not known", 5)
        return self._keys if key_id is None else self._named(key_id)

    @property
    def seconds_left(self) -> float:
        """For how many seconds a verification by these keys holds, until they are fetched again."""
        return self._fetched_at + REFRESH - time.monotonic()

    def _named(self, key_id: str) -> list[jwt.PyJWK]:
        return [key for key in self._keys if key.key_id == key_id]

    async def _fetch(self) -> None:
        asked_at = time.monotonic()
        async with self._fetching:
            # Another call has fetched while this one waited for the lock.
            if asked_at < self._tried_at or time.monotonic() - self._tried_at < PAUSE:
                return
            try:
                found = await self._fetched()
            except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
                log.warning("the signing keys cannot be fetched", extra={"error": repr(error)})
            else:
                self._keys = found
                self._fetched_at = time.monotonic()
            finally:
                self._tried_at = time.monotonic()

    async def _fetched(self) -> list[jwt.PyJWK]:
        # Redirects are not followed: only the configured address is trusted.
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, transport=self._transport) as client,
            client.stream("GET", self._url) as response,
        ):
            response.raise_for_status()
            if not response.is_success:
                raise ValueError(f"HTTP {response.status_code}")
            data = bytearray()
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > MAX_BYTES:
                    raise ValueError("the key set is too large")
        return [key for key in jwt.PyJWKSet.from_json(data.decode()).keys if _signs(key)]


def _signs(key: jwt.PyJWK) -> bool:
    return key.public_key_use in (None, "sig") and key.key_type != "oct"
