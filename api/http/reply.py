"""Answers as the server sends them: a status, headers in bytes, a body in bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.json import encode

Fields = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")

GUARDS: Fields = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
"""On every answer that is no page: whatever a browser makes of it, nothing in it runs."""

OF_JSON: Fields = [JSON, *GUARDS]
"""What every answer in JSON begins with."""


class Reply(NamedTuple):
    """`headers` name the content's type and length too; nothing is added to them."""

    status: int
    headers: Fields
    body: bytes


def json_bytes(body: bytes, status: int = 200, headers: Fields | None = None) -> Reply:
    """Return a body that is JSON already."""
    fields = [*OF_JSON, (b"content-length", b"%d" % len(body))]
    return Reply(status, fields + headers if headers else fields, body)


def json_reply(content: Any, status: int = 200, headers: Fields | None = None) -> Reply:
    """Return JSON made of plain data."""
    return json_bytes(encode(content), status, headers)


def content(body: bytes, media_type: bytes, guards: Fields = GUARDS) -> Reply:
    """Return 200 with a body of another type."""
    fields = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    return Reply(200, fields + guards, body)
