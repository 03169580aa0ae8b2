"""What clients say in request headers, read once and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from api.problems import Problem, malformed

Headers = Mapping[bytes, bytes]

_KEYS = UUID("6f0e2a5e-6c0b-4f0e-9d64-0b7d6d0c3a11")
"""The namespace in which an Idempotency-Key that is no UUID becomes one."""

MAX_KEY = 255
MAX_WAIT = 30.0

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")


def headers_of(scope: Any) -> Headers:
    """The headers by lower-case name; of one that came twice, the last."""
    return dict(scope["headers"])


def command_id(headers: Headers) -> UUID:
    """The `Idempotency-Key`, or a new id without one.

    Raises:
        Problem: 400 for an empty or an overlong key.
    """
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return UUID(bytes=os.urandom(16), version=4)
    key = raw.decode("latin-1").strip().strip('"')
    if not key or len(key) > MAX_KEY:
        raise malformed(f"an Idempotency-Key has 1 to {MAX_KEY} characters")
    try:
        return UUID(key)
    except ValueError:
        return uuid5(_KEYS, key)


def expected_revision(headers: Headers) -> int | None:
    """The revision in `If-Match`; None without one, and for `*`.

    Raises:
        Problem: 400 if it is neither.
    """
    raw = headers.get(b"if-match")
    if raw is None or raw.strip() == b"*":
        return None
    text = raw.strip().removeprefix(b"W/").strip(b'"')
    if not text.isdigit() or len(text) > 18:
        raise malformed('If-Match takes one entity tag as we give them: "<revision>"')
    return int(text)


def at_least(headers: Headers) -> int | None:
    """The position in `Consistency-Token`.

    Raises:
        Problem: 400 if the token is none of ours.
    """
    raw = headers.get(b"consistency-token")
    if raw is None:
        return None
    token = raw.strip()
    if not token.isdigit() or len(token) > 18:
        raise malformed("no Consistency-Token of ours")
    return int(token)


def wait_seconds(headers: Headers) -> float | None:
    """N of `Prefer: wait=N`, at most `MAX_WAIT`."""
    raw = headers.get(b"prefer")
    found = _WAIT.search(raw.decode("latin-1")) if raw else None
    return min(float(found[1]), MAX_WAIT) if found else None


def store(headers: Headers) -> str | None:
    """The store that `Rayfold-Store` asks for.

    Raises:
        Problem: 400 if it is neither of the two.
    """
    raw = headers.get(b"rayfold-store")
    if raw is None:
        return None
    name = raw.decode("latin-1").strip().lower()
    if name not in ("memory", "postgres"):
        raise Problem(400, "no-such-store", 'Rayfold-Store is "memory" or "postgres"')
    return name


def traceparent(headers: Headers) -> str:
    """The W3C trace context; empty where there is none that is well formed."""
    raw = headers.get(b"traceparent", b"").strip()
    return raw.decode() if _TRACEPARENT.match(raw) else ""


def text(headers: Headers, name: bytes) -> str:
    """A header that is passed on as it is, at most 255 characters of it."""
    return headers.get(name, b"").decode("latin-1").strip()[:255]
