"""The minimal representation of a resource, for clients that keep to a fixed set of fields.

A route can name a second query, on a leaner view of the same key. It answers a GET with
`Prefer: return=minimal` (RFC 7240). For compatibility it also answers one that carries
`Content-Type: application/json` and no `Accept`: a GET has no content that it could be
the type of, and clients that send it so expect the bare document that they keyed in.
"""

from __future__ import annotations

from api.http.headers import Headers
from api.http.reply import Reply, json_bytes

_REVISION = b',"revision":'
_PREFER = b"return=minimal"


def wants_minimal(headers: Headers) -> bool:
    """Whether the client asks for the minimal representation."""
    if b"prefer" in headers and _PREFER in headers[b"prefer"]:
        return True
    return (
        b"content-type" in headers
        and b"accept" not in headers
        and headers[b"content-type"].startswith(b"application/json")
    )


def minimal_reply(reply: Reply, headers: Headers) -> Reply:
    """A reply with a row's document, without its last member, the revision."""
    if reply.status != 200:
        return reply
    fields = [(name, value) for name, value in reply.headers if not name.startswith(b"content-")]
    fields.append((b"vary", b"Accept, Content-Type, Prefer"))
    if _PREFER in headers.get(b"prefer", b""):
        fields.append((b"preference-applied", _PREFER))
    return json_bytes(reply.body[: reply.body.rindex(_REVISION)] + b"}", 200, fields)
