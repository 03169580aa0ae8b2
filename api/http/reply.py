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
"""The headers of every answer other than a page: a browser must not execute anything in it."""

OF_JSON: Fields = [JSON, *GUARDS]
"""The headers of every answer in JSON."""


class Reply(NamedTuple):
    """An answer. `headers` include the content's type and length; none are added."""

    status: int
    headers: Fields
    body: bytes


def json_bytes(body: bytes, status: int = 200, headers: Fields | None = None) -> Reply:
    """Return a reply whose body is JSON already."""
    fields = [*OF_JSON, (b"content-length", b"%d" % len(body))]
    return Reply(status, fields + headers if headers else fields, body)


def json_reply(content: Any, status: int = 200, headers: Fields | None = None) -> Reply:
    """Return a reply with plain data as JSON."""
    return json_bytes(encode(content), status, headers)


def content(body: bytes, media_type: bytes, guards: Fields = GUARDS) -> Reply:
    """Return 200 with a body of another type."""
    fields = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    return Reply(200, fields + guards, body)
