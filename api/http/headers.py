"""Reads and checks request headers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid5

from api.http.problems import Problem, malformed
from rayfold.stores import known_stores
from rayfold.tenants import is_tenant, within

Headers = Mapping[bytes, bytes]

_KEYS = UUID("6f0e2a5e-6c0b-4f0e-9d64-0b7d6d0c3a11")
"""The namespace in which an Idempotency-Key that is not a UUID is turned into one."""

_WORKED_OUT = 5
"""The version of UUIDs that are derived from a name: RFC 9562, section 5.5."""

MAX_KEY = 255
MAX_WAIT = 30.0
DEFAULT_TIMEOUT = 15.0
MAX_TIMEOUT = 60.0

_SECONDS = re.compile(rb"[0-9]{1,6}(\.[0-9]{1,6})?\Z")
_ETAG = re.compile(rb'"([0-9]{1,18})(?:-[0-9a-f]{18})?"\Z')
"""The tag of a receipt is the revision; that of a row has a digest of its content too."""
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z"
)
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_WAIT = re.compile(r"(?:^|[,;\s])wait=([0-9]{1,6})(?:$|[,;\s])")


_SINGLE = {
    b"authorization",
    b"consistency-token",
    b"content-length",
    b"content-type",
    b"host",
    b"idempotency-key",
    b"if-match",
    b"last-event-id",
    b"origin",
    b"rayfold-not-before",
    b"rayfold-store",
    b"rayfold-tenant",
    b"rayfold-timeout",
    b"sec-fetch-site",
    b"traceparent",
    b"x-causation-id",
    b"x-correlation-id",
}
"""Headers with a single value: two of them would contradict each other."""


def joined(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers as a dictionary; the values of a repeated header are joined to one list.

    Raises:
        Problem: 400 if a repeated header can have only one value.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            raise malformed(f"the header {name.decode('latin-1')} is given more than once")
        else:
            headers[name] += b", " + value
    return headers


def command_id(headers: Headers, tenant: str = "") -> str:
    """Return the `Idempotency-Key`, or a new id without one; see `id_of_key` for a tenant's.

    Raises:
        Problem: 400 for an empty or an overlong key.
    """
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return _new_id()
    key = raw.decode("latin-1").strip().strip('"')
    if not key or len(key) > MAX_KEY:
        raise malformed(f"an Idempotency-Key must have 1 to {MAX_KEY} characters")
    return id_of_key(key, tenant)


def id_of_key(key: str, tenant: str = "") -> str:
    """Return the command id for an `Idempotency-Key`: the key if it is a UUID, else a digest.

    A UUID of version 5 is digested too. The ids of processes' commands have that version and can be
    computed by others: a client that sent one first would make the process believe that its own
    command was done. With a tenant every key is digested, because the same key in two tenants
    stands for two commands.
    """
    known = _uuid(key)
    if known is None:
        return str(uuid5(_KEYS, within(tenant, key)))
    if tenant or known.version == _WORKED_OUT:
        return str(uuid5(_KEYS, within(tenant, str(known))))
    return str(known)


def ids_of(given: str, tenant: str = "") -> list[str]:
    """Return the command ids that a client may mean, as `given` is a key or a command id."""
    known, of_key = _uuid(given), id_of_key(given, tenant)
    return [of_key] if known is None else list(dict.fromkeys([str(known), of_key]))


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _ids() -> Iterator[str]:
    """Yield version 4 UUIDs as text, at almost no cost. `str(uuid4())` makes a system call for
    each, which took a twentieth of the gateway's time for a command."""
    while True:
        drawn = os.urandom(256 * 16).hex()
        for start in range(0, len(drawn), 32):
            text = drawn[start : start + 32]
            variant = "89ab"[int(text[16], 16) & 3]
            yield f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


_new_id = _ids().__next__


def timeout(headers: Headers) -> float:
    """Return the seconds that a command may take: `Rayfold-Timeout`, at most `MAX_TIMEOUT`.

    Raises:
        Problem: 400 if it is not a number.
    """
    raw = headers.get(b"rayfold-timeout")
    if raw is None:
        return DEFAULT_TIMEOUT
    if _SECONDS.match(raw.strip()) is None:
        raise malformed("Rayfold-Timeout must be a number of seconds, like 2.5")
    return min(float(raw), MAX_TIMEOUT)


def expected_revision(headers: Headers) -> int | None:
    """Return the revision in `If-Match`, a tag of a receipt or a row; None if absent or `*`.

    Raises:
        Problem: 400 if it is not such a tag.
    """
    raw = headers.get(b"if-match")
    if raw is None or raw.strip() == b"*":
        return None
    found = _ETAG.match(raw.strip())
    if found is None:
        raise malformed('If-Match must be one entity tag, as this gateway gives them: "<revision>"')
    return int(found[1])


def at_least(headers: Headers) -> int | None:
    """Return the position in `Consistency-Token`.

    Raises:
        Problem: 400 if the token is not valid.
    """
    raw = headers.get(b"consistency-token")
    if raw is None:
        return None
    token = raw.strip()
    if not token.isdigit() or len(token) > 18:
        raise malformed("the Consistency-Token is not one that this stack gave")
    return int(token)


def token(headers: Headers, position: int) -> bytes:
    """Return the `Consistency-Token` of an answer that shows `position`.

    It is never less than the token that the client has sent. The receipt of a repeated command and
    a past state are old; a client that always sends back the last token must not go backwards.
    """
    if b"consistency-token" not in headers:
        return b"%d" % position
    return b"%d" % max(position, at_least(headers) or 0)


def wait_seconds(headers: Headers) -> float | None:
    """Return N of `Prefer: wait=N`, at most `MAX_WAIT`; None without it."""
    raw = headers.get(b"prefer")
    found = _WAIT.search(raw.decode("latin-1")) if raw else None
    return min(float(found[1]), MAX_WAIT) if found else None


def not_before(headers: Headers) -> datetime | None:
    """Return the instant before which a command must not be sent; None: send it at once.

    Raises:
        Problem: 400 if it is not an RFC 3339 time, in UTC between the years 1 and 9999.
    """
    raw = headers.get(b"rayfold-not-before")
    if raw is None:
        return None
    text = raw.decode("latin-1").strip()
    try:
        if not _INSTANT.match(text):
            raise ValueError
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise malformed(
            "Rayfold-Not-Before must be an instant of RFC 3339, like 2026-01-31T12:00:00Z"
        ) from None


def store(headers: Headers) -> str | None:
    """Return the store that `Rayfold-Store` asks for.

    Raises:
        Problem: 400 if there is no store of that name.
    """
    raw = headers.get(b"rayfold-store")
    if raw is None:
        return None
    name = raw.decode("latin-1").strip().lower()
    if name not in known_stores():
        raise Problem(
            400, "no-such-store", f"Rayfold-Store must be one of {', '.join(known_stores())}"
        )
    return name


def tenant(headers: Headers) -> str | None:
    """Return the tenant that `Rayfold-Tenant` names; None if there is none.

    Raises:
        Problem: 400 if it is not a valid name for a tenant.
    """
    raw = headers.get(b"rayfold-tenant")
    if raw is None:
        return None
    name = raw.decode("latin-1").strip()
    if not is_tenant(name):
        raise Problem(
            400,
            "no-such-tenant",
            "Rayfold-Tenant must be a tenant's name: up to 63 lower-case letters, digits, - and _",
        )
    return name


def traceparent(headers: Headers) -> str:
    """Return the W3C trace context; empty if it is absent or malformed."""
    raw = headers.get(b"traceparent")
    return raw.decode() if raw is not None and _TRACEPARENT.match(raw) else ""


def text(headers: Headers, name: bytes) -> str:
    """Return at most 255 characters of a header that is passed on unchanged."""
    raw = headers.get(name)
    return raw.decode("latin-1").strip()[:255] if raw is not None else ""


def matches(headers: Headers, etag: bytes) -> bool:
    """Return whether `If-None-Match` names this entity tag."""
    raw = headers.get(b"if-none-match")
    if raw is None:
        return False
    if raw == etag or raw.strip() == b"*":
        return True
    return any(part.strip().removeprefix(b"W/") == etag for part in raw.split(b","))
