"""The minimal representation of a resource, for clients that keep to a fixed set of fields.

A route can name a second query, on a leaner view of the same key. It answers a GET with
`Prefer: return=minimal` (RFC 7240). For compatibility it also answers one that carries
`Content-Type: application/json` and no `Accept`: a GET has no content that it could be
the type of, and clients that send it so expect the bare document that they keyed in.
"""

from __future__ import annotations

from api.headers import Headers


def wants_minimal(headers: Headers) -> bool:
    """Whether the client asks for the minimal representation."""
    if b"return=minimal" in headers.get(b"prefer", b""):
        return True
    return b"accept" not in headers and headers.get(b"content-type", b"").startswith(
        b"application/json"
    )


def without_revision(body: bytes) -> bytes:
    """A row's document without its last member, `"revision"`."""
    return body[: body.rindex(b',"revision":')] + b"}"
