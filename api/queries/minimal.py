"""The minimal representation of a resource, for clients that keep to a fixed set of fields.

A route can name a second query, on a leaner view of the same key. It answers a GET with
`Prefer: return=minimal` (RFC 7240), or with the media type `MEDIA_TYPE` in `Accept`.
"""

from __future__ import annotations

import re

from api.http.headers import Headers
from api.http.reply import Fields, Reply

MEDIA_TYPE = b"application/vnd.rayfold.minimal+json"

VARY = (b"vary", b"Accept, Prefer")
"""The header of every answer of a route that has a minimal representation."""

_REVISION = b',"revision":'
_PREFER = b"return=minimal"
_PREFERRED = re.compile(rb'(?:^|[,;\s])return="?minimal"?(?:$|[,;\s])', re.IGNORECASE)
_ACCEPTED = re.compile(rb"(?:^|[,\s])" + re.escape(MEDIA_TYPE) + rb"(?:$|[,;\s])", re.IGNORECASE)


def wants_minimal(headers: Headers) -> bool:
    """Return whether the client asks for the minimal representation."""
    return _prefers(headers) or _accepts(headers)


def minimal_reply(reply: Reply, headers: Headers) -> Reply:
    """Return the reply with the row's document without its last member, the revision."""
    if reply.status != 200:
        return with_vary(reply)
    last = reply.body.rfind(_REVISION)  # middleware may have removed it
    body = reply.body if last < 0 else reply.body[:last] + b"}"
    of_the_whole = (b"content-type", b"content-length")
    fields: Fields = [(n, v) for n, v in reply.headers if n not in of_the_whole]
    fields += [(b"content-type", MEDIA_TYPE), (b"content-length", b"%d" % len(body)), VARY]
    if _prefers(headers):
        fields.append((b"preference-applied", _PREFER))
    return Reply(200, fields, body)


def with_vary(reply: Reply) -> Reply:
    """Return the reply with a header that tells caches of another representation."""
    return Reply(reply.status, [*reply.headers, VARY], reply.body)


def _prefers(headers: Headers) -> bool:
    return b"prefer" in headers and _PREFERRED.search(headers[b"prefer"]) is not None


def _accepts(headers: Headers) -> bool:
    return b"accept" in headers and _ACCEPTED.search(headers[b"accept"]) is not None
