"""Answers as the server sends them: a status, headers in bytes, a body in bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

from msgspec.json import encode

Fields = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")


class Reply(NamedTuple):
    """`headers` name the content's type and length too; nothing is added to them."""

    status: int
    headers: Fields
    body: bytes


def json_bytes(body: bytes, status: int = 200, headers: Fields | None = None) -> Reply:
    """Return a body that is JSON already."""
    fields = [JSON, (b"content-length", b"%d" % len(body))]
    return Reply(status, fields + headers if headers else fields, body)


def json_reply(content: Any, status: int = 200, headers: Fields | None = None) -> Reply:
    """Return JSON made of plain data."""
    return json_bytes(encode(content), status, headers)


def content(body: bytes, media_type: bytes, headers: Fields | None = None) -> Reply:
    """Return 200 with a body of another type."""
    fields = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    return Reply(200, fields + headers if headers else fields, body)
